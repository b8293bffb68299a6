import * as fs from "node:fs";
import * as path from "node:path";
import { archiveOf, pauseImage, postgresImage, type SandboxImage } from "../images/build";
import { waitForLock } from "../lib/lock";
import { cacheDir } from "../lib/paths";
import { step } from "../lib/progress";
import { UserError } from "../lib/user-error";
import type { Parts } from "../sandbox/lifecycle";
import type { Artefact } from "./artefact";
import { buildGoProgram, goArtefact, type GoProgramName, goPrograms } from "./go-programs";
import { buildNodeSystem, nodeRootfs, nodeSystem } from "./node-system";

/** What a first build needs in the cache and in Go's own caches, in bytes. */
const BUILD_SPACE = 22 * 2 ** 30;

/** Something in the cache that may have to be made. */
interface Part {
  readonly title: string;
  readonly artefact: Artefact;
  make(): Promise<void>;
}

/** Makes the parts that are not in the cache, in order, under the cache's lock. */
async function ensure(parts: readonly Part[]): Promise<void> {
  if (parts.every((part) => part.artefact.isPresent())) return;
  fs.mkdirSync(cacheDir(), { recursive: true });
  const release = await waitForLock(cacheDir("lock"), () =>
    console.log("… waiting for another run that is filling the cache"),
  );
  try {
    const { bavail, bsize } = fs.statfsSync(cacheDir());
    requireSpace(bavail * bsize);
    for (const part of parts) {
      if (!part.artefact.isPresent()) await step(part.title, () => part.make());
    }
  } finally {
    release();
  }
}

/** @throws {UserError} where a first build would fill the disk of the cache, of which `free` bytes are left */
export function requireSpace(free: number): void {
  if (free < BUILD_SPACE) {
    throw new UserError(
      `${cacheDir()} has ${Math.floor(free / 2 ** 30)} GiB free and a first build needs ${BUILD_SPACE / 2 ** 30}: free some space, or set XDG_CACHE_HOME, GOCACHE and GOMODCACHE to a larger disk.`,
    );
  }
}

function goPart(name: GoProgramName): Part {
  const { directory, version, minutes } = goPrograms[name];
  return {
    title: `building ${directory} ${version} (about ${minutes} min)`,
    artefact: goArtefact(name),
    make: () => buildGoProgram(name),
  };
}

function imagePart(image: SandboxImage): Part {
  return { title: `building image ${image.reference}`, artefact: image.artefact, make: () => image.build() };
}

/** Everything that the sandbox cluster is made of, from the cache or built. */
export async function sandboxParts(
  images: readonly SandboxImage[] = [postgresImage(18), postgresImage(15)],
): Promise<Parts> {
  const wanted = [pauseImage, ...images];
  const programs = ["kubernetes", "coredns", "provisioner"] as const;
  await ensure([
    ...programs.map(goPart),
    { title: "installing the node's Debian packages", artefact: nodeSystem, make: buildNodeSystem },
    ...wanted.map(imagePart),
  ]);
  return {
    rootfs: nodeRootfs,
    programs: gatherPrograms(programs),
    images: new Map(wanted.map((image) => [image.reference, archiveOf(image)])),
  };
}

/** The Pulumi engine and the Kubernetes provider, from the cache or built. */
export async function pulumiPrograms(): Promise<{ engine: string; kubernetesProvider: string }> {
  await ensure([goPart("pulumi"), goPart("kubernetesProvider")]);
  return {
    engine: path.join(goArtefact("pulumi").directory, goPrograms.pulumi.output),
    kubernetesProvider: path.join(
      goArtefact("kubernetesProvider").directory,
      goPrograms.kubernetesProvider.output,
    ),
  };
}

/** One directory for all programs of the node, because it is mounted there as one; hard links take no space. */
function gatherPrograms(names: readonly GoProgramName[]): string {
  const directory = cacheDir(
    "built",
    `programs-${names.map((name) => path.basename(goArtefact(name).directory)).join("-")}`,
  );
  if (fs.existsSync(directory)) return directory;
  const unfinished = `${directory}.unfinished`;
  fs.rmSync(unfinished, { recursive: true, force: true });
  fs.mkdirSync(unfinished);
  for (const name of names) {
    const { output, ...rest } = goPrograms[name];
    fs.linkSync(path.join(goArtefact(name).directory, output), path.join(unfinished, output));
    for (const link of "links" in rest ? rest.links : []) fs.symlinkSync(output, path.join(unfinished, link));
  }
  fs.renameSync(unfinished, directory);
  return directory;
}
