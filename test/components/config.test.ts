import assert from "node:assert/strict";
import * as fs from "node:fs";
import * as path from "node:path";
import fc from "fast-check";
import { parse } from "yaml";
import { ConfigError, readSettings, type Settings } from "../../components/config";

type Table = Record<string, string>;

const valid: Table = {
  kubeContext: "sandbox",
  clusterIdentifier: "sandbox",
  namespace: "record-platform",
  image: "docker.io/library/postgres:18",
  majorVersion: "18",
  dataSize: "1Gi",
  walArchiveSize: "512Mi",
  backupSize: "512Mi",
  cpu: "100m",
  memory: "512Mi",
};

const read = (table: Table) => readSettings({ get: (key) => table[key] });

/** The paths of the problems in a table, and the sentences by path. */
function problems(table: Table): Map<string, string> {
  try {
    read(table);
    return new Map();
  } catch (error) {
    assert(error instanceof ConfigError, String(error));
    return new Map(error.errors.map(({ propertyPath, reason }) => [propertyPath, reason]));
  }
}

describe("config", () => {
  it("reads a complete table", () => {
    assert.deepEqual(read(valid), {
      kubeContext: "sandbox",
      kubeconfig: undefined,
      clusterIdentifier: "sandbox",
      namespace: "record-platform",
      image: "docker.io/library/postgres:18",
      imageFamily: "debian",
      majorVersion: 18,
      dataSize: "1Gi",
      walArchiveSize: "512Mi",
      backupSize: "512Mi",
      storageClass: undefined,
      cpu: "100m",
      memory: "512Mi",
      protect: true,
    } satisfies Settings);
  });

  const refused: [key: string, value: string, reason: RegExp][] = [
    ["kubeContext", "", /is not set: .*production; run `pulumi config set kubeContext VALUE`/],
    ["clusterIdentifier", "", /is not set: .*replace every object/],
    ["namespace", "Record_Platform", /no namespace's name/],
    ["namespace", "-x", /no namespace's name/],
    ["namespace", "kube-system", /belongs to the cluster/],
    ["namespace", "default", /belongs to the cluster/],
    ["protect", "no", /use true or false/],
    ["image", "postgres", /name and tag or digest/],
    ["image", "registry:5000/postgres", /name and tag or digest/],
    ["image", "postgres :18", /name and tag or digest/],
    ["image", "postgres:latest", /major version changes by itself/],
    ["image", "postgres:17-alpine", /version 17, but majorVersion is 18/],
    ["imageFamily", "ubuntu", /is "ubuntu": use debian or alpine/],
    ["majorVersion", "14", /is "14": use one of 15, 16, 17, 18/],
    ["majorVersion", "eighteen", /is "eighteen"/],
    ["majorVersion", "18.1", /is "18.1"/],
    ["dataSize", "100", /is "100", which is no size/],
    ["dataSize", "100GB", /is "100GB", which is no size/],
    ["dataSize", "-1Gi", /no size/],
    ["dataSize", "1Mi", /is 1Mi, which is too small/],
    ["walArchiveSize", "", /is not set/],
    ["backupSize", "1 Gi", /no size/],
    ["storageClass", "Fast Disk", /no class's name/],
    ["cpu", "0", /no amount of CPU/],
    ["cpu", "two", /no amount of CPU/],
    ["memory", "64Mi", /too small .* at least 256Mi/],
  ];
  for (const [key, value, reason] of refused) {
    it(`refuses ${key} = "${value}"`, () => {
      const found = problems({ ...valid, [key]: value });
      assert.deepEqual([...found.keys()], [key]);
      assert.match(found.get(key)!, reason);
    });
  }

  it("asks for the family of an image with a digest only", () => {
    const image = `docker.io/library/postgres@sha256:${"0".repeat(64)}`;
    assert.deepEqual([...problems({ ...valid, image }).keys()], ["imageFamily"]);
    assert.equal(read({ ...valid, image, imageFamily: "alpine" }).imageFamily, "alpine");
  });

  it("names every problem at once, and only those", () => {
    const breakable = [
      "kubeContext",
      "namespace",
      "dataSize",
      "walArchiveSize",
      "cpu",
      "memory",
      "storageClass",
    ];
    fc.assert(
      fc.property(fc.subarray(breakable), (broken) => {
        const table = {
          ...valid,
          ...Object.fromEntries(broken.map((key) => [key, key === "kubeContext" ? "" : "?"])),
        };
        assert.deepEqual([...problems(table).keys()].sort(), [...broken].sort());
      }),
    );
  });

  it("either accepts or explains, whatever it is given", () => {
    const keys = [...Object.keys(valid), "imageFamily", "storageClass", "kubeconfig"];
    fc.assert(
      fc.property(fc.constantFrom(...keys), fc.string(), (key, value) => {
        for (const [path, reason] of problems({ ...valid, [key]: value })) {
          assert(keys.includes(path));
          assert.match(reason, /: .*\S/s);
        }
      }),
    );
  });

  it("accepts sizes from the minimum on, and no other unit", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5000 }),
        fc.constantFrom("Mi", "Gi", "Ti", "M", "G", ""),
        (n, unit) => {
          const accepted = !problems({ ...valid, dataSize: `${n}${unit}` }).has("dataSize");
          assert.equal(accepted, unit === "Gi" || unit === "Ti" || (unit === "Mi" && n >= 256));
        },
      ),
    );
  });

  describe("the committed stacks", () => {
    const load = (file: string) =>
      parse(fs.readFileSync(path.join(__dirname, "../..", file), "utf8")) as {
        config: Record<string, { default?: string | number; description?: string } | string | string[]>;
      };
    const schema = load("Pulumi.yaml").config as Record<
      string,
      { default?: string | number; description?: string }
    >;

    it("describe every key, and know every setting", () => {
      assert.deepEqual(Object.keys(schema).sort(), Object.keys(read(valid)).sort());
      for (const [key, { description }] of Object.entries(schema)) assert(description, key);
    });

    for (const stack of ["dev", "prod"]) {
      const { config } = load(`Pulumi.${stack}.yaml`);
      const prefix = "durable-postgres:";

      it(`${stack} lacks nothing but the cluster`, () => {
        const defaults = Object.entries(schema).flatMap(([key, { default: value }]) =>
          value === undefined ? [] : [[key, String(value)]],
        );
        const own = Object.entries(config).map(([key, value]) => [key.replace(prefix, ""), value]);
        const table = Object.fromEntries([...defaults, ...own]) as Table;
        assert.deepEqual([...problems(table).keys()], ["kubeContext", "clusterIdentifier"]);
      });

      it(`${stack} has no default provider for Kubernetes`, () => {
        assert.deepEqual(config["pulumi:disable-default-providers"], ["kubernetes"]);
      });
    }

    it("prod has the sizes of the incident's system", () => {
      const { config } = load("Pulumi.prod.yaml");
      assert.equal(config["durable-postgres:dataSize"], "100Gi");
      assert.equal(config["durable-postgres:walArchiveSize"], "20Gi");
    });
  });
});
