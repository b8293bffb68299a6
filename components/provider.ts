import type { KubeConfig } from "@kubernetes/client-node";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import type { Settings } from "./config";

/**
 * The one Kubernetes provider; the default one is disabled in the stack files. `clusterIdentifier` alone decides
 * whether objects are replaced.
 *
 * A configured kubeconfig is passed by content, as a secret: the provider cannot compare with a path that has moved.
 * Otherwise the plugin reads the user's own kubeconfig and nothing of it enters the state.
 */
export function createProvider(settings: Settings, kubeConfig: KubeConfig): k8s.Provider {
  return new k8s.Provider("kubernetes", {
    clusterIdentifier: settings.clusterIdentifier,
    context: settings.kubeContext,
    kubeconfig: settings.kubeconfig === undefined ? undefined : pulumi.secret(kubeConfig.exportConfig()),
  });
}
