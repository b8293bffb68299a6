import * as fs from "node:fs";
import * as grpc from "@grpc/grpc-js";

/**
 * What the engine expects of every plugin process, whatever its kind (read in
 * the published Go module pulumi/pkg, resource/plugin/plugin.go): the port of a
 * gRPC server on 127.0.0.1 as the first line of stdout, an engine that asks for
 * the end with SIGINT and kills five seconds later, and a stdin that is a pipe
 * held open by the engine and never written to.
 */

/** The SDK and the engine both allow messages of this size. */
export const grpcOptions: grpc.ChannelOptions = {
  "grpc.max_receive_message_length": 400 * 1024 * 1024,
  "grpc.max_send_message_length": 400 * 1024 * 1024,
};

type Handlers = grpc.UntypedServiceImplementation;

/** An error as it is to reach the user: a sentence, without a stack. */
export function refusal(code: grpc.status, details: string): grpc.ServiceError {
  return Object.assign(new Error(details), { code, details, metadata: new grpc.Metadata() });
}

/** Completes `handlers`: every other method of `service` refuses with a sentence, never silently. */
export function withRefusals<T extends object>(
  service: T,
  handlers: Partial<Handlers>,
  sentence: (method: string) => string,
): Handlers {
  const refusing: Handlers = {};
  for (const [name, method] of Object.entries(service) as [string, { responseStream: boolean }][]) {
    const error = () => refusal(grpc.status.UNIMPLEMENTED, sentence(name));
    refusing[name] = method.responseStream
      ? (call: grpc.ServerWritableStream<unknown, unknown>) => call.emit("error", error())
      : (_call: unknown, callback: grpc.sendUnaryData<unknown>) => callback(error());
  }
  return { ...refusing, ...(handlers as Handlers) };
}

/** Starts a server on a free port of this machine alone. */
export async function listen(service: grpc.ServiceDefinition, handlers: Handlers) {
  const server = new grpc.Server(grpcOptions);
  server.addService(service, handlers);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { server, port };
}

/**
 * Serves as a plugin process until the engine asks for the end or is gone.
 *
 * @param stop ends what this process has started; the process ends after it
 */
export async function servePlugin(
  service: grpc.ServiceDefinition,
  handlers: Handlers,
  stop: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  let stopping = false;
  const end = () => {
    if (stopping) return;
    stopping = true;
    void stop().finally(() => process.exit(0));
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, end);
  // The kernel closes the engine's end of the pipe however the engine ended,
  // so this also sees a SIGKILL. Other kinds of stdin (a terminal, /dev/null)
  // mean that no engine started this process.
  const stdin = fs.fstatSync(0);
  if (stdin.isFIFO() || stdin.isSocket()) process.stdin.on("end", end).on("error", end).resume();

  const { port } = await listen(service, handlers);
  process.stdout.write(`${port}\n`);
}
