import * as fs from "node:fs";
import * as path from "node:path";
import { archiveOf, pauseImage, postgresImage, type SandboxImage } from "../images/build";
import { waitForLock } from "../lib/lock";
import { cacheDir } from "../lib/paths";
import { step } from "../lib/progress";
import { UserError } from "../lib/user-error";
import type { Parts } from "../sandbox/lifecycle";
import { requireLinuxRoot } from "../sandbox/machine";
import { Artefact } from "./artefact";
import { buildGoProgram, goArtefact, type GoProgramName, goPrograms } from "./go-programs";
import { buildNodeSystem, nodeRootfs, nodeSystem } from "./node-system";

/** Something in the cache that may have to be made. */
interface Part {
  readonly title: string;
  readonly artefact: Artefact;
  /** What making it takes on the disk, Go's own caches included, in GiB. */
  readonly space: number;
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
    const missing = parts.filter((part) => !part.artefact.isPresent());
    const { bavail, bsize } = fs.statfsSync(cacheDir());
    requireSpace(
      missing.reduce((sum, { space }) => sum + space, 0),
      (bavail * bsize) / 2 ** 30,
    );
    for (const part of missing) await step(part.title, () => part.make());
  } finally {
    release();
  }
}

/** @throws {UserError} where what has to be built takes more than the disk of the cache has free, both in GiB */
export function requireSpace(needed: number, free: number): void {
  if (free < needed) {
    throw new UserError(
      `${cacheDir()} has ${Math.floor(free)} GiB free and what has to be built needs ${needed}: free some space, or set XDG_CACHE_HOME, GOCACHE and GOMODCACHE to a larger disk.`,
    );
  }
}

function goPart(name: GoProgramName): Part {
  const { directory, version, minutes, space } = goPrograms[name];
  return {
    title: `building ${directory} ${version} (about ${minutes} min)`,
    artefact: goArtefact(name),
    space,
    make: () => buildGoProgram(name),
  };
}

function imagePart(image: SandboxImage): Part {
  return {
    title: `building image ${image.reference}`,
    artefact: image.artefact,
    space: 1,
    make: () => image.build(),
  };
}

const nodePrograms = ["kubernetes", "coredns", "provisioner"] as const;

/** One directory with all programs of the node, because it is mounted there as one. */
const gatheredPrograms: Part = {
  title: "gathering the node's programs",
  artefact: new Artefact(
    "node-programs",
    nodePrograms.map((name) => goArtefact(name).directory),
  ),
  space: 1,
  make() {
    return this.artefact.make((directory) => {
      for (const name of nodePrograms) {
        const { output, ...rest } = goPrograms[name];
        fs.copyFileSync(path.join(goArtefact(name).directory, output), path.join(directory, output));
        for (const link of "links" in rest ? rest.links : [])
          fs.symlinkSync(output, path.join(directory, link));
      }
    });
  },
};

const nodeSystemPart: Part = {
  title: "installing the node's Debian packages",
  artefact: nodeSystem,
  space: 1,
  make: buildNodeSystem,
};

/** The node's root file system by itself, for the tools in it. */
export async function nodeTools(): Promise<void> {
  requireLinuxRoot();
  await ensure([nodeSystemPart]);
}

/** Everything that the sandbox cluster is made of, from the cache or built. */
export async function sandboxParts(
  images: readonly SandboxImage[] = [postgresImage(18), postgresImage(15)],
): Promise<Parts> {
  const wanted = [pauseImage, ...images];
  requireLinuxRoot(); // before minutes of building
  await ensure([...nodePrograms.map(goPart), gatheredPrograms, nodeSystemPart, ...wanted.map(imagePart)]);
  return {
    rootfs: nodeRootfs,
    programs: gatheredPrograms.artefact.directory,
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
