/** The base of an image: it decides who owns the files, and how text sorts. */
export type ImageFamily = "debian" | "alpine";

export const imageFamilies: readonly ImageFamily[] = ["debian", "alpine"];

export const majorVersions = [15, 16, 17, 18] as const;

export type MajorVersion = (typeof majorVersions)[number];

/** Where a cluster lies on its claim, and whom it belongs to. */
export interface Layout {
  /** The only place where a serving container mounts the data claim. */
  readonly mountPath: string;

  /** The cluster's directory relative to the claim's root: a sub-directory can be checked and renamed. */
  readonly directory: string;

  /** Owner of every file on the claim, and the user that every container runs as. */
  readonly uid: number;
  readonly gid: number;

  /** Options of initdb that depend on the version. */
  readonly initdbOptions: readonly string[];
}

const owners: Record<ImageFamily, number> = { debian: 999, alpine: 70 };

/**
 * The safe layout of the official images and those built from them. Up to 17 they declare a VOLUME at
 * `/var/lib/postgresql/data`, from 18 on at `/var/lib/postgresql`: a PGDATA at or below the first would lie on a
 * throw-away directory, `<major>/docker` is safe with both and is the default from 18 on.
 */
export function layoutFor(family: ImageFamily, majorVersion: MajorVersion): Layout {
  return {
    mountPath: "/var/lib/postgresql",
    directory: `${majorVersion}/docker`,
    uid: owners[family],
    gid: owners[family],
    // The built-in provider sorts alike on every operating system; it exists from 17 on.
    initdbOptions: majorVersion >= 17 ? ["--locale-provider=builtin"] : [],
  };
}

/** PGDATA in a container that mounts the data claim at `mountPath`. */
export function pgdata(layout: Layout, mountPath: string = layout.mountPath): string {
  return `${mountPath}/${layout.directory}`;
}

/** The tag of an image reference, if it has one: a colon before the last slash belongs to a registry's port. */
export function imageTag(image: string): string | undefined {
  return /^[^@]*:([^:/@]+)(?:@.*)?$/.exec(image)?.[1];
}

/** The family that an image's tag tells, or undefined where there is no tag to tell. */
export function familyOf(image: string): ImageFamily | undefined {
  const tag = imageTag(image);
  if (tag === undefined) return undefined;
  return tag.includes("alpine") ? "alpine" : "debian";
}

/** The major version that an image's tag tells, as in `16.4-alpine` and `2.14-pg16`, if any. */
export function majorVersionOf(image: string): number | undefined {
  const tag = imageTag(image) ?? "";
  const digits = /^(\d\d)(?!\d)/.exec(tag) ?? /pg(\d\d)(?!\d)/.exec(tag);
  return digits ? Number(digits[1]) : undefined;
}
