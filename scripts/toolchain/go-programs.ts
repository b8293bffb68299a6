import * as fs from "node:fs";
import * as path from "node:path";
import spawn from "nano-spawn";
import { UserError } from "../lib/user-error";
import { Artefact, contents } from "./artefact";

/** The engine and its Node SDK have to be of one version; `package.json` pins the SDK. */
export const PULUMI_VERSION = "3.259.0";
/** The provider and `@pulumi/kubernetes` have to be of one version. */
export const KUBERNETES_PROVIDER_VERSION = "4.25.0";
const KUBERNETES_VERSION = "1.34.4";

/** A program that is built from Go modules, pinned by `go.mod` and `go.sum` in `go/<directory>`. */
interface GoProgram {
  readonly directory: string;
  readonly version: string;
  /** The package to build; default is the directory itself. */
  readonly package?: string;
  /** File name of the program. */
  readonly output: string;
  /** Further names of the same program. */
  readonly links?: readonly string[];
  /** String variables that the linker sets, as the project's own release build does. */
  readonly variables?: Readonly<Record<string, string>>;
  readonly tags?: string;
  /** Files of a module that have to lie beside `main.go`, to be embedded. */
  readonly embeds?: { readonly module: string; readonly files: readonly string[] };
  /** Minutes that a first build takes on two cores, for the progress line. */
  readonly minutes: number;
  /** What a first build takes in Go's caches and ours, in GiB. */
  readonly space: number;
}

const kubernetesVersionVariables = Object.fromEntries(
  ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].flatMap((name) => [
    [`${name}.gitVersion`, `v${KUBERNETES_VERSION}`],
    [`${name}.gitMajor`, "1"],
    [`${name}.gitMinor`, "34"],
  ]),
);

export const goPrograms = {
  pulumi: {
    directory: "pulumi",
    version: PULUMI_VERSION,
    package: "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
    output: "pulumi",
    tags: "osusergo,grpcnotrace",
    // Without it the engine takes itself for a development build and refuses version checks.
    variables: { "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": `v${PULUMI_VERSION}` },
    minutes: 3,
    space: 3,
  },
  kubernetesProvider: {
    directory: "kubernetes-provider",
    version: KUBERNETES_PROVIDER_VERSION,
    output: "pulumi-resource-kubernetes",
    variables: {
      "github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version.Version": `v${KUBERNETES_PROVIDER_VERSION}`,
    },
    embeds: {
      module: "github.com/pulumi/pulumi-kubernetes/provider/v4",
      files: [
        "cmd/pulumi-resource-kubernetes/schema.json",
        "cmd/pulumi-resource-kubernetes/terraform-mapping.json",
      ],
    },
    minutes: 6,
    space: 6,
  },
  kubernetes: {
    directory: "kubernetes",
    version: KUBERNETES_VERSION,
    output: "kubernetes",
    links: [
      "kubectl",
      "kubelet",
      "kube-apiserver",
      "kube-controller-manager",
      "kube-scheduler",
      "kube-proxy",
    ],
    variables: kubernetesVersionVariables,
    minutes: 5,
    space: 5,
  },
  coredns: { directory: "coredns", version: "1.15.0", output: "coredns", minutes: 1, space: 1 },
  provisioner: { directory: "provisioner", version: "1", output: "provisioner", minutes: 1, space: 1 },
} as const satisfies Record<string, GoProgram>;

export type GoProgramName = keyof typeof goPrograms;

/** The cached build of a program. */
export function goArtefact(name: GoProgramName): Artefact {
  const program: GoProgram = goPrograms[name];
  return new Artefact(`${program.directory}-${program.version}`, [
    JSON.stringify({ ...program, space: undefined }),
    ...contents(path.join(__dirname, "go", program.directory)),
  ]);
}

/** Builds a program into its artefact. */
export async function buildGoProgram(name: GoProgramName): Promise<void> {
  const program: GoProgram = goPrograms[name];
  await goArtefact(name).make(async (directory) => {
    const source = path.join(directory, "source");
    fs.cpSync(path.join(__dirname, "go", program.directory), source, { recursive: true });
    const go = (...args: string[]) =>
      spawn("go", args, {
        cwd: source,
        env: { CGO_ENABLED: "0", GOFLAGS: "-mod=readonly -trimpath -buildvcs=false" },
      });
    await requireGo();
    if (program.embeds) {
      await go("mod", "download", program.embeds.module);
      const { stdout: module } = await go("list", "-m", "-f", "{{.Dir}}", program.embeds.module);
      for (const file of program.embeds.files) {
        fs.writeFileSync(path.join(source, path.basename(file)), fs.readFileSync(path.join(module, file)));
      }
    }
    const variables = Object.entries(program.variables ?? {}).map(([key, value]) => `-X ${key}=${value}`);
    await go(
      "build",
      ...(program.tags ? ["-tags", program.tags] : []),
      ...["-ldflags", ["-w", "-s", ...variables].join(" ")],
      ...["-o", path.join(directory, program.output), program.package ?? "."],
    );
    for (const link of program.links ?? []) fs.symlinkSync(program.output, path.join(directory, link));
    fs.rmSync(source, { recursive: true });
  });
}

async function requireGo(): Promise<void> {
  await spawn("go", ["version"]).catch(() => {
    throw new UserError(
      "Go is not on PATH, and this machine lacks programs that have to be built with it: install Go 1.26 or later (https://go.dev/dl), or install the Pulumi CLI and name a cluster with --context NAME.",
    );
  });
}
