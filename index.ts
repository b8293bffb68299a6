import * as pulumi from "@pulumi/pulumi";
import { Cluster, loadKubeConfig } from "./components/cluster";
import { readSettings } from "./components/config";
import { Initialization, initializationJobName } from "./components/initialization";
import { layoutFor } from "./components/layout";
import { DatabaseNamespace, namespaceKey } from "./components/namespace";
import { createProvider } from "./components/provider";
import { registerDataHook } from "./components/retention";
import { Server } from "./components/server";
import { SuperuserSecret, superuserSecretKey } from "./components/superuser-secret";
import { claimKey, VolumeClaims } from "./components/volume-claims";

export = async () => {
  const dataHook = registerDataHook();
  const settings = readSettings(new pulumi.Config());
  const layout = layoutFor(settings.imageFamily, settings.majorVersion);
  const owner = { project: pulumi.getProject(), stack: pulumi.getStack() };
  const namespaceName = settings.namespace;

  const kubeConfig = loadKubeConfig(settings);
  const cluster = new Cluster(kubeConfig, settings.kubeContext);
  const imports = await cluster.findRetained(
    [
      namespaceKey(namespaceName),
      superuserSecretKey(namespaceName),
      claimKey(namespaceName, "data"),
      claimKey(namespaceName, "walArchive"),
      claimKey(namespaceName, "backups"),
    ],
    owner,
  );
  const retention = { owner, imports, protect: settings.protect };
  const succeededJob = await cluster.findSucceeded(namespaceName, initializationJobName);

  const provider = createProvider(settings, kubeConfig);
  const { namespace } = new DatabaseNamespace(
    "namespace",
    { namespace: namespaceName, retention },
    { provider },
  );
  const claims = new VolumeClaims(
    "claims",
    {
      namespace,
      namespaceName,
      retention,
      dataHook,
      sizes: { data: settings.dataSize, walArchive: settings.walArchiveSize, backups: settings.backupSize },
      storageClass: settings.storageClass,
    },
    { provider },
  );
  const superuser = new SuperuserSecret("superuser", { namespace, namespaceName, retention }, { provider });
  const initialization = new Initialization(
    "initialization",
    {
      namespace,
      image: settings.image,
      layout,
      dataClaim: claims.data,
      superuserSecret: superuser.secretName,
      succeededJob,
    },
    { provider },
  );
  const server = new Server(
    "server",
    {
      namespace,
      startAfter: initialization,
      image: settings.image,
      layout,
      dataClaim: claims.data,
      walArchiveClaim: claims.walArchive,
      cpu: settings.cpu,
      memory: settings.memory,
    },
    { provider },
  );

  return {
    host: server.host,
    port: server.port,
    database: "postgres",
    superuserSecret: superuser.secretName,
    namespace,
    dataClaim: claims.data,
    walArchiveClaim: claims.walArchive,
    backupsClaim: claims.backups,
    image: settings.image,
    pgdata: server.pgdata,
  };
};
