import "reflect-metadata"; // @peculiar/x509 resolves its parts through it
import * as crypto from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import * as x509 from "@peculiar/x509";
import { writeAtomically } from "../lib/write-atomically";

x509.cryptoProvider.set(crypto.webcrypto as unknown as Crypto);

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const VALID_YEARS = 10; // a sandbox lives as long as its volumes; nobody renews its certificates

interface Subject {
  /** Common name: the user that Kubernetes sees. */
  readonly user: string;
  /** Organisation: the group that Kubernetes sees. */
  readonly group?: string;
  /** Names and addresses that a server answers under; makes it a server certificate too. */
  readonly serves?: readonly string[];
}

/** A certificate authority kept in a directory, which signs what is missing there. */
export class CertificateAuthority {
  private constructor(
    private readonly directory: string,
    private readonly certificate: x509.X509Certificate,
    private readonly key: crypto.webcrypto.CryptoKey,
  ) {}

  /** Opens the authority in `directory`, or makes one there. */
  static async open(directory: string): Promise<CertificateAuthority> {
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    const certificateFile = path.join(directory, "ca.crt");
    const keyFile = path.join(directory, "ca.key");
    // The certificate is written last: where it is, the pair is complete.
    if (!fs.existsSync(certificateFile)) {
      const keys = await crypto.webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
      const certificate = await x509.X509CertificateGenerator.createSelfSigned({
        name: "CN=durable-postgres sandbox CA",
        keys: keys as CryptoKeyPair,
        signingAlgorithm: ALGORITHM,
        ...validity(),
        extensions: [
          new x509.BasicConstraintsExtension(true, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
          await x509.SubjectKeyIdentifierExtension.create(keys.publicKey as CryptoKey),
        ],
      });
      writeAtomically(keyFile, await pem(keys.privateKey));
      writeAtomically(certificateFile, certificate.toString("pem"));
    }
    const der = crypto.createPrivateKey(fs.readFileSync(keyFile)).export({ type: "pkcs8", format: "der" });
    const key = await crypto.webcrypto.subtle.importKey("pkcs8", der, ALGORITHM, false, ["sign"]);
    return new CertificateAuthority(
      directory,
      new x509.X509Certificate(fs.readFileSync(certificateFile, "utf8")),
      key,
    );
  }

  /** Writes `<name>.key` and `<name>.crt` for the subject unless they are there. */
  async issue(name: string, subject: Subject): Promise<void> {
    const certificateFile = path.join(this.directory, `${name}.crt`);
    if (fs.existsSync(certificateFile)) return;
    const keys = await crypto.webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
    const serves = subject.serves ?? [];
    const certificate = await x509.X509CertificateGenerator.create({
      subject: new x509.Name([{ CN: [subject.user] }, ...(subject.group ? [{ O: [subject.group] }] : [])]),
      issuer: this.certificate.subject,
      publicKey: keys.publicKey as CryptoKey,
      signingKey: this.key as CryptoKey,
      signingAlgorithm: ALGORITHM,
      ...validity(),
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([
          x509.ExtendedKeyUsage.clientAuth,
          ...(serves.length > 0 ? [x509.ExtendedKeyUsage.serverAuth] : []),
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(this.certificate),
        ...(serves.length > 0
          ? [
              new x509.SubjectAlternativeNameExtension(
                serves.map((name) => ({
                  type: /^[\d.]+$/.test(name) ? ("ip" as const) : ("dns" as const),
                  value: name,
                })),
              ),
            ]
          : []),
      ],
    });
    writeAtomically(path.join(this.directory, `${name}.key`), await pem(keys.privateKey));
    writeAtomically(certificateFile, certificate.toString("pem"));
  }

  /** Writes the RSA key pair that signs service account tokens, unless it is there. */
  issueServiceAccountKeys(): void {
    const publicFile = path.join(this.directory, "service-account.pub");
    if (fs.existsSync(publicFile)) return;
    const { publicKey, privateKey } = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
    writeAtomically(
      path.join(this.directory, "service-account.key"),
      privateKey.export({ type: "pkcs8", format: "pem" }) as string,
    );
    writeAtomically(publicFile, publicKey.export({ type: "spki", format: "pem" }) as string);
  }
}

function validity(): { notBefore: Date; notAfter: Date } {
  const notBefore = new Date(Date.now() - 60_000);
  const notAfter = new Date(notBefore);
  notAfter.setFullYear(notAfter.getFullYear() + VALID_YEARS);
  return { notBefore, notAfter };
}

async function pem(key: crypto.webcrypto.CryptoKey): Promise<string> {
  const der = await crypto.webcrypto.subtle.exportKey("pkcs8", key);
  const body = Buffer.from(der)
    .toString("base64")
    .match(/.{1,64}/g)!
    .join("\n");
  return `-----BEGIN PRIVATE KEY-----\n${body}\n-----END PRIVATE KEY-----\n`;
}
