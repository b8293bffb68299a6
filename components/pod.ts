import type * as k8s from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";
import type { Layout } from "./layout";

type PodSpec = Omit<k8s.types.input.core.v1.PodSpec, "containers">;
type SecurityContext = k8s.types.input.core.v1.SecurityContext;
type Volume = k8s.types.input.core.v1.Volume;

/** Where pods find the scripts of `scripts/pod`. */
export const scriptsPath = "/durable-postgres/scripts";

/** What every pod on the data has in common: the image's own user, no root, no access to the API. */
export function restrictedPod({ uid, gid }: Layout): PodSpec {
  return {
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: uid,
      runAsGroup: gid,
      fsGroup: gid,
      // Without this the kubelet would make PGDATA group-writable at every start, and PostgreSQL refuses that.
      fsGroupChangePolicy: "OnRootMismatch",
      seccompProfile: { type: "RuntimeDefault" },
    },
  };
}

/** What every container has in common. */
export const restrictedContainer: SecurityContext = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  readOnlyRootFilesystem: true,
};

export function claimVolume(name: string, claimName: pulumi.Input<string>): Volume {
  return { name, persistentVolumeClaim: { claimName } };
}

export function configMapVolume(name: string, configMap: pulumi.Input<string>): Volume {
  return { name, configMap: { name: configMap } };
}

/** Memory and disk for PostgreSQL's own sockets, temporary files and shared memory segments. */
export const scratchVolumes: Volume[] = [
  { name: "run", emptyDir: {} },
  { name: "tmp", emptyDir: {} },
  { name: "shm", emptyDir: { medium: "Memory", sizeLimit: "256Mi" } },
];

export const scratchMounts = [
  { name: "run", mountPath: "/var/run/postgresql" },
  { name: "tmp", mountPath: "/tmp" },
  { name: "shm", mountPath: "/dev/shm" },
];
