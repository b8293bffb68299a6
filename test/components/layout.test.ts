import assert from "node:assert/strict";
import fc from "fast-check";
import {
  familyOf,
  imageFamilies,
  imageTag,
  layoutFor,
  majorVersionOf,
  majorVersions,
  pgdata,
} from "../../components/layout";

describe("layout", () => {
  const owners = { debian: 999, alpine: 70 };
  for (const family of imageFamilies) {
    for (const major of majorVersions) {
      it(`${family} ${major}`, () => {
        const layout = layoutFor(family, major);
        assert.deepEqual(layout, {
          mountPath: "/var/lib/postgresql",
          directory: `${major}/docker`,
          uid: owners[family],
          gid: owners[family],
          initdbOptions: major >= 17 ? ["--locale-provider=builtin"] : [],
        });
        assert.equal(pgdata(layout), `/var/lib/postgresql/${major}/docker`);
        assert.equal(pgdata(layout, "/elsewhere"), `/elsewhere/${major}/docker`);
        // The VOLUME of the images up to 17.
        assert(!`${pgdata(layout)}/`.startsWith("/var/lib/postgresql/data/"));
      });
    }
  }

  const images: [image: string, tag?: string, family?: string, major?: number][] = [
    ["postgres:16-alpine", "16-alpine", "alpine", 16],
    ["docker.io/library/postgres:17.6", "17.6", "debian", 17],
    ["postgres:18-bookworm", "18-bookworm", "debian", 18],
    ["postgres:15@sha256:00ff", "15", "debian", 15],
    ["registry:5000/team/postgres:15", "15", "debian", 15],
    ["registry:5000/team/postgres", undefined, undefined, undefined],
    ["postgres@sha256:00ff", undefined, undefined, undefined],
    ["postgis/postgis:16-3.4-alpine", "16-3.4-alpine", "alpine", 16],
    ["timescale/timescaledb:2.14.2-pg16", "2.14.2-pg16", "debian", 16],
    ["team/postgres:20260101", "20260101", "debian", undefined],
  ];
  for (const [image, tag, family, major] of images) {
    it(`reads ${image}`, () => {
      assert.equal(imageTag(image), tag);
      assert.equal(familyOf(image), family);
      assert.equal(majorVersionOf(image), major);
    });
  }

  it("never takes a registry's port or a digest for a tag", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 65535 }), fc.stringMatching(/^[0-9a-f]{64}$/), (port, digest) => {
        assert.equal(imageTag(`registry:${port}/postgres`), undefined);
        assert.equal(imageTag(`registry:${port}/postgres@sha256:${digest}`), undefined);
        assert.equal(imageTag(`registry:${port}/postgres:15@sha256:${digest}`), "15");
      }),
    );
  });
});
