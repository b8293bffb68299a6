import * as fs from "node:fs";
import * as path from "node:path";
import spawn, { SubprocessError } from "nano-spawn";
import { UserError } from "../lib/user-error";

/** A root file system made of Debian packages, whose signatures apt checks. */
export interface DebianSystem {
  /** Debian release, for example `bookworm`. */
  readonly suite: string;
  /** Packages beside the minimal system (`minbase`). */
  readonly packages: readonly string[];
  /** Where to put it; a name that ends in `.tar` makes an archive, any other a directory. */
  readonly target: string;
  /** Further options of mmdebstrap(1). */
  readonly options?: readonly string[];
}

/** Makes a root file system with mmdebstrap, which is unpacked into `scratch` and not installed. */
export async function makeDebianSystem(system: DebianSystem, scratch: string): Promise<void> {
  const mmdebstrap = await fetchMmdebstrap(scratch);
  const mirror = await debianMirror();
  try {
    // In a mount namespace of its own: what it mounts there can never be met by a clean-up of ours.
    await spawn("unshare", [
      ...["--mount", "--propagation", "private", "--", "perl"],
      ...[mmdebstrap, "--variant=minbase", "--quiet", '--aptopt=Acquire::Languages "none"'],
      ...(system.options ?? []),
      ...[`--include=${system.packages.join(",")}`, system.suite, system.target, ...mirror],
    ]);
  } catch (error) {
    throw new UserError(
      `Debian packages for ${path.basename(system.target)} could not be installed (${firstError(error)}): check that apt reaches a Debian mirror, then run the same command again.`,
    );
  }
}

async function fetchMmdebstrap(scratch: string): Promise<string> {
  fs.mkdirSync(scratch, { recursive: true });
  const download = () => spawn("apt-get", ["download", "mmdebstrap"], { cwd: scratch });
  try {
    // A fresh machine has no package lists yet.
    await download().catch(() => spawn("apt-get", ["update"]).then(download));
  } catch (error) {
    throw new UserError(
      `The package mmdebstrap could not be downloaded (${firstError(error)}): the sandbox cluster needs a Debian or Ubuntu machine whose apt works; on others use kind, or name a cluster with --context NAME.`,
    );
  }
  const archive = fs.readdirSync(scratch).find((file) => file.startsWith("mmdebstrap_"));
  await spawn("dpkg-deb", ["--extract", path.join(scratch, archive!), path.join(scratch, "mmdebstrap")]);
  return path.join(scratch, "mmdebstrap", "usr/bin/mmdebstrap");
}

/** The Debian mirror that this machine's apt uses; none elsewhere, then mmdebstrap's default holds. */
async function debianMirror(): Promise<string[]> {
  const { stdout } = await spawn("apt-get", [
    "indextargets",
    "--format",
    "$(ORIGIN) $(SITE)",
    "Created-By: Packages",
  ]);
  const site = stdout
    .split("\n")
    .map((line) => line.split(" "))
    .find(([origin, site]) => origin === "Debian" && site?.endsWith("/debian"))?.[1];
  return site ? [site] : [];
}

function firstError(error: unknown): string {
  const output = error instanceof SubprocessError ? error.stderr : String(error);
  return (
    output.split("\n").find((line) => line.startsWith("E:")) ??
    output.trim().split("\n").at(-1) ??
    "no reason given"
  );
}
