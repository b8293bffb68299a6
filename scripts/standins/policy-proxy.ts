import * as grpc from "@grpc/grpc-js";
import { AnalyzerService } from "@pulumi/pulumi/proto/analyzer_grpc_pb";
import {
  AnalyzerHandshakeResponse,
  type AnalyzerStackConfigureRequest,
  AnalyzerStackConfigureResponse,
} from "@pulumi/pulumi/proto/analyzer_pb";
import { Empty } from "google-protobuf/google/protobuf/empty_pb";
import type { NodeProcess } from "./node-process";
import { grpcOptions, listen } from "./serve";

/**
 * Stands between the engine and a policy pack.
 *
 * A Node policy pack reads the stack's name, its config and whether this is a
 * preview from its environment, but the engine tells them only to a pack that
 * already runs (ConfigureStack). So this answers the engine first, starts the
 * pack with what it was told, and passes every other call on. The published Go
 * module pulumi/sdk does the same for the real hosts (policy_proxy.go).
 */
export class PolicyProxy {
  #pack?: Promise<grpc.Client>;
  #server?: grpc.Server;
  readonly #start: (env: Record<string, string>) => NodeProcess;
  readonly #output: (chunk: Buffer) => void;

  /**
   * @param start starts the pack with additional environment variables
   * @param output takes what the pack prints after its port
   */
  constructor(start: (env: Record<string, string>) => NodeProcess, output: (chunk: Buffer) => void) {
    this.#start = start;
    this.#output = output;
  }

  async listen(): Promise<number> {
    const { server, port } = await listen(AnalyzerService, this.#handlers());
    this.#server = server;
    return port;
  }

  close(): void {
    this.#server?.forceShutdown();
    this.#pack?.then((client) => client.close()).catch(() => undefined);
  }

  #handlers(): grpc.UntypedServiceImplementation {
    const handlers: grpc.UntypedServiceImplementation = {};
    const methods = Object.entries(AnalyzerService) as [string, grpc.MethodDefinition<unknown, unknown>][];
    for (const [name, method] of methods) {
      handlers[name] = (
        call: grpc.ServerUnaryCall<unknown, unknown>,
        callback: grpc.sendUnaryData<unknown>,
      ) => {
        // A pack that nobody configured still serves, for example for `pulumi policy publish`.
        this.#pack ??= this.#launch({});
        this.#pack.then(
          (pack) => forward(pack, method, call.request, callback),
          (error: Error) => callback({ code: grpc.status.UNAVAILABLE, details: error.message }),
        );
      };
    }
    const forwardCancel = handlers.cancel as grpc.handleUnaryCall<Empty, Empty>;
    return {
      ...handlers,
      handshake: (_call: unknown, callback: grpc.sendUnaryData<AnalyzerHandshakeResponse>) =>
        callback(null, new AnalyzerHandshakeResponse()),
      configureStack: (
        call: grpc.ServerUnaryCall<AnalyzerStackConfigureRequest, AnalyzerStackConfigureResponse>,
        callback: grpc.sendUnaryData<AnalyzerStackConfigureResponse>,
      ) => {
        this.#pack ??= this.#launch(environment(call.request), call.request);
        // The first call that needs the pack reports why it did not start.
        this.#pack.catch(() => undefined);
        callback(null, new AnalyzerStackConfigureResponse());
      },
      cancel: (call: grpc.ServerUnaryCall<Empty, Empty>, callback: grpc.sendUnaryData<Empty>) =>
        this.#pack ? forwardCancel(call, callback) : callback(null, new Empty()),
    };
  }

  async #launch(
    env: Record<string, string>,
    configuration?: AnalyzerStackConfigureRequest,
  ): Promise<grpc.Client> {
    const port = await readPort(this.#start(env), this.#output);
    const pack = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), grpcOptions);
    if (configuration) {
      await new Promise<void>((resolve, reject) =>
        forward(pack, AnalyzerService.configureStack, configuration, (error) =>
          // Packs of an older @pulumi/policy have only their environment.
          error && error.code !== grpc.status.UNIMPLEMENTED
            ? reject(new Error(`The policy pack refused its configuration: ${error.details ?? ""}`))
            : resolve(),
        ),
      );
    }
    return pack;
  }
}

function forward<Request, Response>(
  pack: grpc.Client,
  method: grpc.MethodDefinition<Request, Response>,
  request: Request,
  callback: (error: Partial<grpc.StatusObject> | null, response?: Response) => void,
): void {
  pack.makeUnaryRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    request,
    (error, response) => callback(error && { code: error.code, details: error.details }, response),
  );
}

/** The variables that the SDK's settings and config read (runtime/state.js, runtime/config.js). */
function environment(configuration: AnalyzerStackConfigureRequest): Record<string, string> {
  return {
    PULUMI_NODEJS_ORGANIZATION: configuration.getOrganization(),
    PULUMI_NODEJS_PROJECT: configuration.getProject(),
    PULUMI_NODEJS_STACK: configuration.getStack(),
    PULUMI_NODEJS_DRY_RUN: String(configuration.getDryRun()),
    PULUMI_CONFIG: JSON.stringify(Object.fromEntries(configuration.getConfigMap().toArray())),
    PULUMI_CONFIG_SECRET_KEYS: JSON.stringify(configuration.getConfigSecretKeysList()),
  };
}

/** Reads the port, which a pack prints as the first line of its stdout like any plugin. */
function readPort(pack: NodeProcess, output: (chunk: Buffer) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    let start = Buffer.alloc(0);
    const read = (chunk: Buffer) => {
      start = Buffer.concat([start, chunk]);
      const end = start.indexOf("\n");
      if (end < 0) return;
      pack.stdout.off("data", read).on("data", output);
      if (end + 1 < start.length) output(start.subarray(end + 1));
      const line = start.toString("utf8", 0, end).trim();
      if (/^\d+$/.test(line)) resolve(line);
      else reject(new Error(`The policy pack printed "${line}" where its port was expected.`));
    };
    pack.stdout.on("data", read);
    pack
      .on("error", reject)
      .on("close", (code, signal) =>
        reject(new Error(`The policy pack ended (${signal ?? `exit code ${code}`}) before it could serve.`)),
      );
  });
}
