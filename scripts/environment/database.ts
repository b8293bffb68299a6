import * as net from "node:net";
import { CoreV1Api, KubeConfig, PortForward } from "@kubernetes/client-node";
import { Client } from "pg";
import { UserError } from "../lib/user-error";
import type { Target } from "./target";

/** Where a deployed database is found. */
export interface DatabaseAddress {
  readonly kubeconfig?: string;
  readonly context: string;
  readonly namespace: string;
  readonly superuserSecret: string;
  /** Default: the one in the Secret. */
  readonly password?: string;
}

/** The address of the database that a stack with these outputs has deployed to the target. */
export function addressOf(target: Target, outputs: Readonly<Record<string, unknown>>): DatabaseAddress {
  return {
    kubeconfig: target.kubeconfig,
    context: target.context,
    namespace: String(outputs.namespace),
    superuserSecret: String(outputs.superuserSecret),
  };
}

const USER = "postgres";
const PORT = 5432;
const CONNECT_TIMEOUT_MS = 60_000;
const ATTEMPT_TIMEOUT_MS = 3_000;

/** Connects to the database from this machine through a port-forward of its own, and closes both at the end. */
export async function withDatabase<T>(
  address: DatabaseAddress,
  use: (client: Client) => Promise<T>,
): Promise<T> {
  const config = new KubeConfig();
  if (address.kubeconfig) config.loadFromFile(address.kubeconfig);
  else config.loadFromDefault();
  config.setCurrentContext(address.context);
  const api = config.makeApiClient(CoreV1Api);
  const password = address.password ?? (await superuserPassword(api, address));
  const { client, close } = await connect(config, api, address.namespace, password);
  try {
    return await use(client);
  } finally {
    await client.end().catch(() => undefined);
    close();
  }
}

/** Tries until the server accepts: after a restart the API server may still show the pod as it was before. */
async function connect(config: KubeConfig, api: CoreV1Api, namespace: string, password: string) {
  const deadline = Date.now() + CONNECT_TIMEOUT_MS;
  for (;;) {
    const { port, close } = await forwardPort(config, api, namespace);
    const client = new Client({
      ...{ host: "127.0.0.1", port, user: USER, password, database: USER },
      connectionTimeoutMillis: ATTEMPT_TIMEOUT_MS, // a tunnel to a pod that is gone is silent
    });
    client.on("error", () => undefined); // a lost connection also fails the query that waits for it
    try {
      await client.connect();
      return { client, close };
    } catch (error) {
      close();
      // 28P01 is a wrong password: waiting cannot help, and must not hide it.
      if ((error as { code?: string }).code === "28P01" || Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

async function superuserPassword(
  api: CoreV1Api,
  { namespace, superuserSecret }: DatabaseAddress,
): Promise<string> {
  const secret = await api.readNamespacedSecret({ namespace, name: superuserSecret });
  const password = secret.data?.password;
  if (!password) throw new UserError(`Secret ${namespace}/${superuserSecret} has no key "password".`);
  return Buffer.from(password, "base64").toString("utf8");
}

/** A listener on a free port of 127.0.0.1 that leads to the server's pod. */
async function forwardPort(config: KubeConfig, api: CoreV1Api, namespace: string) {
  const { items } = await api.listNamespacedPod({ namespace, labelSelector: "app=postgres" });
  const pod = items.find((pod) => pod.status?.phase === "Running" && !pod.metadata?.deletionTimestamp);
  const forward = new PortForward(config);
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    if (!pod) return void socket.destroy();
    forward
      .portForward(namespace, pod.metadata!.name!, [PORT], socket, null, socket)
      .catch(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    server.close();
    sockets.forEach((socket) => socket.destroy());
  };
  return { port: (server.address() as net.AddressInfo).port, close };
}
