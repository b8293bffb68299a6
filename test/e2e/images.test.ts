import * as assert from "node:assert/strict";
import * as fs from "node:fs";
import { spawnSync } from "node:child_process";
import { archiveOf, type PostgresMajor, postgresImage, toolsFile } from "../../scripts/images/build";
import { sandboxParts } from "../../scripts/toolchain/assemble";

/** The part of an OCI image configuration that is compared. */
interface ImageConfig {
  readonly config: {
    readonly Env: readonly string[];
    readonly Volumes: Readonly<Record<string, unknown>>;
    readonly StopSignal: string;
  };
}

interface Descriptor {
  readonly digest: string;
}

// What the official images declare: facts of their Dockerfiles for Debian, 15 and 18.
const official = {
  15: { volume: "/var/lib/postgresql/data", pgdata: "/var/lib/postgresql/data" },
  18: { volume: "/var/lib/postgresql", pgdata: "/var/lib/postgresql/18/docker" },
} as const;

for (const major of [15, 18] as const) {
  describe(`PostgreSQL ${major} image of the sandbox`, function () {
    this.timeout(120_000);
    let image: OciArchive;

    before(async () => {
      await sandboxParts();
      image = new OciArchive(major);
    });

    it("declares what the official image declares", () => {
      const { config } = image.config;
      assert.deepEqual(Object.keys(config.Volumes), [official[major].volume]);
      assert.equal(config.StopSignal, "SIGINT");
      assert.ok(config.Env.includes(`PGDATA=${official[major].pgdata}`));
      const searchPath = config.Env.find((entry) => entry.startsWith("PATH="))!;
      assert.ok(searchPath.endsWith(`:/usr/lib/postgresql/${major}/bin`));
    });

    it("has the official image's user, owners and modes", () => {
      assert.match(image.read("etc/passwd"), /^postgres:x:999:999:/m);
      assert.match(image.read("etc/group"), /^postgres:x:999:/m);
      assert.match(image.list("var/lib/postgresql/"), /^drwxrwxrwt 999\/999 .* var\/lib\/postgresql\/$/m);
      if (major === 15)
        assert.match(image.list("var/lib/postgresql/"), /^drwxrwxrwt 999\/999 .*postgresql\/data\/$/m);
      assert.match(image.list("run/postgresql/"), /^drwxrws(rwt|rwT) 999\/999/m);
    });

    it("holds no tool that the official image lacks, and those that the pod scripts use", () => {
      const known = new Set(fs.readFileSync(toolsFile, "utf8").split("\n"));
      const tools = image.files
        .filter((file) => /^(usr\/)?s?bin\/[^/]+$/.test(file))
        .map((file) => file.split("/").at(-1)!);
      assert.ok(tools.length > 200);
      assert.deepEqual(
        tools.filter((tool) => !known.has(tool)),
        [],
      );
      for (const needed of ["sh", "flock", "find", "mktemp", "head", "id", "sync"])
        assert.ok(tools.includes(needed), needed);
    });

    it("holds no data and no entrypoint that could make some", () => {
      assert.deepEqual(
        image.files.filter((file) => /PG_VERSION$|docker-entrypoint/.test(file)),
        [],
      );
    });
  });
}

/** Reads an image of one layer with tar(1). */
class OciArchive {
  readonly config: ImageConfig;
  readonly files: readonly string[];
  private readonly layer: string;
  private readonly archive: string;

  constructor(major: PostgresMajor) {
    this.archive = archiveOf(postgresImage(major));
    const index = this.json<{ manifests: Descriptor[] }>("index.json");
    const manifest = this.json<{ config: Descriptor; layers: Descriptor[] }>(blob(index.manifests[0]!));
    this.config = this.json<ImageConfig>(blob(manifest.config));
    assert.equal(manifest.layers.length, 1);
    this.layer = blob(manifest.layers[0]!);
    this.files = this.tar("--list").split("\n");
  }

  /** The content of a file of the image. */
  read(file: string): string {
    return this.tar("--extract", "--to-stdout", file);
  }

  /** The long listing of a directory of the image. */
  list(directory: string): string {
    return this.tar("--list", "--verbose", "--numeric-owner", directory);
  }

  private tar(...args: string[]): string {
    const script = 'archive=$1 layer=$2; shift 2; tar -xOf "$archive" "$layer" | gzip -dc | tar -f - "$@"';
    return output("sh", "-c", script, "sh", this.archive, this.layer, ...args);
  }

  private json<T>(member: string): T {
    return JSON.parse(output("tar", "-xOf", this.archive, member)) as T;
  }
}

function blob({ digest }: Descriptor): string {
  return `blobs/${digest.replace(":", "/")}`;
}

function output(program: string, ...args: string[]): string {
  const result = spawnSync(program, args, {
    encoding: "utf8",
    maxBuffer: 256 << 20,
    env: { ...process.env, LC_ALL: "C" },
  });
  assert.equal(result.status, 0, result.stderr);
  return result.stdout;
}
