import * as fs from "node:fs";
import * as YAML from "yaml";
import { writeAtomically } from "../lib/write-atomically";

/** Writes a kubeconfig with one cluster, user and context, readable by its owner alone. */
export function writeKubeconfig(
  file: string,
  options: {
    readonly context: string;
    readonly server: string;
    readonly pki: string;
    readonly certificate: string;
  },
): void {
  const base64 = (name: string) => fs.readFileSync(`${options.pki}/${name}`).toString("base64");
  const name = options.context;
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name, cluster: { server: options.server, "certificate-authority-data": base64("ca.crt") } }],
    users: [
      {
        name,
        user: {
          "client-certificate-data": base64(`${options.certificate}.crt`),
          "client-key-data": base64(`${options.certificate}.key`),
        },
      },
    ],
    contexts: [{ name, context: { cluster: name, user: name } }],
    "current-context": name,
  };
  writeAtomically(file, YAML.stringify(config));
}
