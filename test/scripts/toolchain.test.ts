import * as assert from "node:assert/strict";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { requireMemory } from "../../scripts/sandbox/machine";
import { Artefact } from "../../scripts/toolchain/artefact";
import { requireSpace } from "../../scripts/toolchain/assemble";
import {
  goArtefact,
  goPrograms,
  KUBERNETES_PROVIDER_VERSION,
  PULUMI_VERSION,
} from "../../scripts/toolchain/go-programs";
import { dependencies } from "../../package.json";

describe("artefact in the cache", () => {
  let directory: string;
  const before_ = process.env.XDG_CACHE_HOME;

  beforeEach(() => {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), "cache-"));
    process.env.XDG_CACHE_HOME = directory;
  });
  afterEach(() => {
    if (before_ === undefined) delete process.env.XDG_CACHE_HOME;
    else process.env.XDG_CACHE_HOME = before_;
    fs.rmSync(directory, { recursive: true });
  });

  const fill = (target: string) => {
    fs.mkdirSync(path.join(target, "bin"));
    fs.writeFileSync(path.join(target, "bin", "program"), "complete");
    return Promise.resolve();
  };

  it("is present once it has been made", async () => {
    const artefact = new Artefact("tool-1", ["input"]);
    assert.equal(artefact.isPresent(), false);
    await artefact.make(fill);
    assert.equal(artefact.isPresent(), true);
  });

  it("is another one when an input changes", async () => {
    await new Artefact("tool-1", ["input"]).make(fill);
    assert.equal(new Artefact("tool-1", ["other"]).isPresent(), false);
  });

  it("is not present when its making failed or was killed half-way, and is made then", async () => {
    const artefact = new Artefact("tool-1", ["input"]);
    const failing = artefact.make(async (target) => {
      await fill(target);
      throw new Error("the download broke off");
    });
    await assert.rejects(failing, /broke off/);
    assert.deepEqual(fs.readdirSync(path.dirname(artefact.directory)), []);

    fs.mkdirSync(`${artefact.directory}.unfinished-1/bin`, { recursive: true });
    fs.writeFileSync(`${artefact.directory}.unfinished-1/bin/half`, "");
    assert.equal(artefact.isPresent(), false);
    await artefact.make(fill);
    assert.equal(artefact.isPresent(), true);
    assert.deepEqual(fs.readdirSync(path.dirname(artefact.directory)), [path.basename(artefact.directory)]);
    assert.deepEqual(fs.readdirSync(path.join(artefact.directory, "bin")), ["program"]);
  });

  for (const [what, damage] of [
    ["truncated", (file: string) => fs.truncateSync(file, 3)],
    ["changed", (file: string) => fs.writeFileSync(file, "COMPLETE")],
    ["missing", (file: string) => fs.rmSync(file)],
  ] as const) {
    it(`is not present when a file of it is ${what}`, async () => {
      const artefact = new Artefact("tool-1", ["input"]);
      await artefact.make(fill);
      await new Promise((resolve) => setTimeout(resolve, 50)); // file times have a resolution of some milliseconds
      damage(path.join(artefact.directory, "bin/program"));
      assert.equal(artefact.isPresent(), false);
    });
  }
});

describe("toolchain", () => {
  it("builds the versions that the SDKs in package.json are for", () => {
    assert.equal(dependencies["@pulumi/pulumi"], PULUMI_VERSION);
    assert.equal(dependencies["@pulumi/kubernetes"], KUBERNETES_PROVIDER_VERSION);
  });

  it("pins every program by go.sum, and names no place of this machine", () => {
    for (const [name, { directory }] of Object.entries(goPrograms)) {
      const source = path.join(__dirname, "../../scripts/toolchain/go", directory);
      assert.ok(fs.statSync(path.join(source, "go.sum")).size > 0, name);
      assert.doesNotMatch(fs.readFileSync(path.join(source, "go.mod"), "utf8"), /=> (\/|\.\.?\/)/, name);
      assert.match(goArtefact(name as keyof typeof goPrograms).directory, /-[0-9a-f]{12}$/);
    }
  });

  it("refuses to begin with too little disk or memory", () => {
    requireSpace(5, 5);
    assert.throws(() => requireSpace(5, 1.5), {
      message: /has 1 GiB free and what has to be built needs 5: .*XDG_CACHE_HOME/,
    });
    requireMemory(2 ** 34);
    assert.throws(() => requireMemory(2 ** 29), {
      message: /512 MiB of memory available .* needs 1536: .*--context NAME/,
    });
  });
});
