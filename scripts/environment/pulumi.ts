import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import spawn from "nano-spawn";
import { findProgram } from "../lib/find-program";
import { cacheDir, projectRoot } from "../lib/paths";
import { installLanguageHost, installRandomProvider } from "../standins/install";
import { pulumiPrograms } from "../toolchain/assemble";
import { KUBERNETES_PROVIDER_VERSION, PULUMI_VERSION } from "../toolchain/go-programs";

/** A Pulumi CLI that can run this program. */
export interface PulumiCli {
  readonly command: string;
  /** Variables that it needs beside the user's own. */
  readonly env: Readonly<Record<string, string>>;
  /** One sentence that says where it comes from and which stand-ins it uses. */
  readonly description: string;
}

/** The machine's own Pulumi where it fits, else one from package registries. */
export async function findPulumi(): Promise<PulumiCli> {
  return (await installedPulumi()) ?? (await assembledPulumi());
}

/** The Pulumi on PATH, if its version fits and its Node language host is there. */
export async function installedPulumi(searchPath = process.env.PATH ?? ""): Promise<PulumiCli | undefined> {
  const command = findProgram("pulumi", searchPath);
  if (!command) return undefined;
  const version = await spawn(command, ["version"], { env: { PULUMI_SKIP_UPDATE_CHECK: "true" } }).then(
    ({ stdout }) => stdout.trim().replace(/^v/, ""),
    () => "",
  );
  if (!fits(version)) return undefined;
  // The engine looks for it beside itself and on PATH.
  const beside = path.join(path.dirname(fs.realpathSync(command)), "pulumi-language-nodejs");
  if (!fs.existsSync(beside) && !findProgram("pulumi-language-nodejs", searchPath)) return undefined;
  return { command, env: {}, description: `Pulumi ${version} of this machine (${command})` };
}

/** Whether an engine of this version runs a program with our SDK: same major version, and no older. */
function fits(version: string): boolean {
  const [major, minor] = version.split(".").map(Number);
  const [ourMajor, ourMinor] = PULUMI_VERSION.split(".").map(Number);
  return major === ourMajor && minor! >= ourMinor!;
}

/** A Pulumi home with an engine and a Kubernetes provider built from source, and the two stand-ins. */
async function assembledPulumi(): Promise<PulumiCli> {
  const { engine, kubernetesProvider } = await pulumiPrograms();
  // The stand-ins are started from this checkout; another has its own home.
  const home = cacheDir("pulumi-home", createHash("sha256").update(projectRoot).digest("hex").slice(0, 12));
  const bin = path.join(home, "versions", PULUMI_VERSION, "bin");
  const plugins = path.join(home, "plugins");
  link(engine, path.join(bin, "pulumi"));
  link(
    kubernetesProvider,
    path.join(plugins, `resource-kubernetes-v${KUBERNETES_PROVIDER_VERSION}`, "pulumi-resource-kubernetes"),
  );
  installLanguageHost(bin, process.execPath);
  installRandomProvider(plugins, process.execPath);
  return {
    command: path.join(bin, "pulumi"),
    env: {
      PULUMI_HOME: home,
      PULUMI_SKIP_UPDATE_CHECK: "true",
      PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
    },
    description: `Pulumi ${PULUMI_VERSION} built from its Go module, with stand-ins for the Node language host and the random provider`,
  };
}

/** A hard link, because the engine looks for the language host beside the file that a symbolic link leads to. */
function link(target: string, file: string): void {
  if (fs.lstatSync(file, { throwIfNoEntry: false })?.ino === fs.statSync(target).ino) return;
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const temporary = `${file}.${process.pid}`;
  fs.linkSync(target, temporary);
  fs.renameSync(temporary, file);
}
