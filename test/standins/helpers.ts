import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import * as grpc from "@grpc/grpc-js";
import { EngineService } from "@pulumi/pulumi/proto/engine_grpc_pb";
import {
  GetRootResourceResponse,
  type LogRequest,
  SetRootResourceResponse,
} from "@pulumi/pulumi/proto/engine_pb";
import { ResourceMonitorService } from "@pulumi/pulumi/proto/resource_grpc_pb";
import {
  RegisterResourceResponse,
  type RegisterResourceRequest,
  SupportsFeatureResponse,
} from "@pulumi/pulumi/proto/resource_pb";
import { Empty } from "google-protobuf/google/protobuf/empty_pb";
import { withRefusals } from "../../scripts/standins/serve";

/** A temporary folder, to be removed after the test. */
export function temporaryFolder(): { folder: string; remove: () => void } {
  const folder = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), "standins-"));
  return { folder, remove: () => fs.rmSync(folder, { recursive: true, force: true }) };
}

/** Writes `files` under `folder`, beside a link to this checkout's packages. */
export function writeProject(folder: string, files: Record<string, string>): string {
  fs.mkdirSync(folder, { recursive: true });
  fs.symlinkSync(path.resolve(__dirname, "../../node_modules"), path.join(folder, "node_modules"));
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(folder, name), text);
  return folder;
}

/** A plugin process as the engine starts it, and what it has printed after its port. */
export interface PluginProcess {
  readonly child: ChildProcessWithoutNullStreams;
  readonly port: number;
  output(): string;
}

/** Starts a launcher in a process group of its own, as the engine does. */
export async function startPlugin(launcher: string, engine = "127.0.0.1:1"): Promise<PluginProcess> {
  const child = spawn(launcher, [engine], { detached: true });
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
  await until(() => output.includes("\n") || child.exitCode !== null, "the plugin prints its port");
  const port = Number(output.split("\n")[0]);
  if (!(port > 0)) throw new Error(`The plugin printed no port: ${output}`);
  return { child, port, output: () => output.slice(output.indexOf("\n") + 1) };
}

/** As much of an engine as the SDK needs to run a program to its end. */
export async function startEngine(): Promise<{ address: string; logs: string[]; stop: () => void }> {
  const answer =
    <Request, Response>(respond: (request: Request) => Response): grpc.handleUnaryCall<Request, Response> =>
    (call, callback) =>
      callback(null, respond(call.request));
  const logs: string[] = [];
  const server = new grpc.Server();
  const refuse = (method: string) => `The test's engine has no ${method}.`;
  server.addService(
    ResourceMonitorService,
    withRefusals(
      ResourceMonitorService,
      {
        supportsFeature: answer(() => new SupportsFeatureResponse().setHassupport(false)),
        registerResource: answer((request: RegisterResourceRequest) =>
          new RegisterResourceResponse().setUrn(
            `urn:pulumi:dev::shop::${request.getType()}::${request.getName()}`,
          ),
        ),
        registerResourceOutputs: answer(() => new Empty()),
        signalAndWaitForShutdown: answer(() => new Empty()),
      },
      refuse,
    ),
  );
  server.addService(
    EngineService,
    withRefusals(
      EngineService,
      {
        log: answer((request: LogRequest) => (logs.push(request.getMessage()), new Empty())),
        getRootResource: answer(() => new GetRootResourceResponse()),
        setRootResource: answer(() => new SetRootResourceResponse()),
      },
      refuse,
    ),
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return { address: `127.0.0.1:${port}`, logs, stop: () => server.forceShutdown() };
}

/** Calls a unary method of a generated service and answers with what came back, error or response. */
export function call<Request, Response>(
  port: number,
  method: grpc.MethodDefinition<Request, Response>,
  request: Request,
): Promise<{ error?: grpc.ServiceError; response?: Response }> {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      (error, response) => {
        client.close();
        resolve({ error: error ?? undefined, response });
      },
    );
  });
}

/** Waits until `condition` holds; a test that waits in vain fails and says for what. */
export async function until(condition: () => boolean, what: string, seconds = 15): Promise<void> {
  for (const end = Date.now() + seconds * 1000; !condition();) {
    if (Date.now() > end) throw new Error(`Waited ${seconds} s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Whether a process with this id is there and not merely waiting to be reaped. */
export function isAlive(pid: number): boolean {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2)[0] !== "Z";
  } catch {
    return false;
  }
}
