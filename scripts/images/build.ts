import * as fs from "node:fs";
import * as path from "node:path";
import { Artefact, contents } from "../toolchain/artefact";
import { makeDebianSystem } from "../toolchain/debian";
import { nodeRootfs, nodeSystem, runInNodeSystem } from "../toolchain/node-system";

const REPOSITORY = "localhost/durable-postgres";

/** Commands of the official image; nothing else may be in ours. */
export const toolsFile = path.join(__dirname, "postgres", "tools.txt");

/** An image for the sandbox, in the cache as an OCI archive. */
export interface SandboxImage {
  readonly reference: string;
  readonly artefact: Artefact;
  build(): Promise<void>;
}

/** PostgreSQL major versions that the sandbox has an image of, and where Debian has them. */
const POSTGRES = {
  // The style of the official images up to 17.
  15: {
    suite: "bookworm",
    volume: "/var/lib/postgresql/data",
    pgdata: "/var/lib/postgresql/data",
    options: [],
  },
  // The style from 18 on. That suite's release file may be past its date; its signature still holds.
  18: {
    suite: "forky",
    volume: "/var/lib/postgresql",
    pgdata: "/var/lib/postgresql/18/docker",
    options: ['--aptopt=Acquire::Check-Valid-Until "false"'],
  },
} as const;

export type PostgresMajor = keyof typeof POSTGRES;

/** The OCI archive of an image. */
export function archiveOf(image: SandboxImage): string {
  return path.join(image.artefact.directory, "image.tar");
}

/** The process that holds a pod's namespaces. */
export const pauseImage: SandboxImage = {
  reference: `${REPOSITORY}/pause:1`,
  artefact: new Artefact("image-pause", [...contents(path.join(__dirname, "pause")), nodeSystem.directory]),
  build() {
    return this.artefact.make((directory) => {
      fs.copyFileSync(path.join(nodeRootfs, "bin/busybox"), path.join(directory, "busybox"));
      buildArchive(directory, path.join(__dirname, "pause"), this.reference, {});
      fs.rmSync(path.join(directory, "busybox"));
    });
  },
};

/** PostgreSQL of a major version, laid out like the official image of that version. */
export function postgresImage(major: PostgresMajor): SandboxImage {
  const { suite, volume, pgdata, options } = POSTGRES[major];
  const hooks = [
    // The official image's ids, before the package would choose others; and no cluster made at installation.
    `--essential-hook=echo postgres:x:999: >>"$1/etc/group";
      echo postgres:x:999:999::/var/lib/postgresql:/bin/bash >>"$1/etc/passwd";
      mkdir -p "$1/etc/postgresql-common"; echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"`,
    // Owners and modes as the official image has them. Never through var/run, a link to the host's /run.
    `--customize-hook=rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/*;
      find "$1/var/lib/postgresql" -mindepth 1 -delete; mkdir -p "$1${volume}" "$1/run/postgresql";
      chown -R 999:999 "$1/var/lib/postgresql" "$1/run/postgresql";
      chmod 1777 "$1/var/lib/postgresql" "$1${volume}"; chmod 3777 "$1/run/postgresql"`,
    // Newer Debian packages bring tools along that the official image lacks: what runs here has to run there.
    `--customize-hook=for tool in "$1"/usr/bin/* "$1"/usr/sbin/*; do
      grep -qxF "$(basename "$tool")" '${toolsFile}' || rm "$tool"; done`,
    "--skip=cleanup/run",
  ];
  const packages = [`postgresql-${major}`, "xz-utils", "zstd", "less", "libnss-wrapper", "locales"];
  return {
    reference: `${REPOSITORY}/postgres:${major}`,
    artefact: new Artefact(`image-postgres-${major}`, [
      ...contents(path.join(__dirname, "postgres")),
      // Not where the list lies: another checkout makes the same image.
      ...[suite, volume, pgdata, ...hooks.map((hook) => hook.replace(toolsFile, "")), ...packages],
    ]),
    async build() {
      await this.artefact.make(async (directory) => {
        const scratch = path.join(directory, "scratch");
        await makeDebianSystem(
          { suite, packages, target: path.join(directory, "rootfs.tar"), options: [...options, ...hooks] },
          scratch,
        );
        buildArchive(directory, path.join(__dirname, "postgres"), this.reference, {
          MAJOR: String(major),
          VOLUME_PATH: volume,
          PGDATA_PATH: pgdata,
        });
        fs.rmSync(scratch, { recursive: true });
        fs.rmSync(path.join(directory, "rootfs.tar"));
      });
    },
  };
}

/** Builds `image.tar` in `directory`, which is also the build context, with buildah from the node's file system. */
function buildArchive(
  directory: string,
  recipe: string,
  reference: string,
  args: Readonly<Record<string, string>>,
): void {
  fs.copyFileSync(path.join(recipe, "Containerfile"), path.join(directory, "Containerfile"));
  const buildah = "buildah --root /tmp/storage --runroot /run/storage --storage-driver vfs";
  const buildArgs = Object.entries(args).map(([key, value]) => `--build-arg ${key}=${value}`);
  runInNodeSystem(
    directory,
    `${buildah} build --isolation chroot --quiet ${buildArgs.join(" ")} --tag ${reference} .
     ${buildah} push --quiet ${reference} oci-archive:/mnt/image.tar:${reference}`,
  );
}
