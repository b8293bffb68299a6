import * as grpc from "@grpc/grpc-js";
import { LanguageRuntimeService } from "@pulumi/pulumi/proto/language_grpc_pb";
import {
  AboutResponse,
  GetRequiredPackagesResponse,
  GetRequiredPluginsResponse,
  type LanguageHandshakeRequest,
  LanguageHandshakeResponse,
  type RunPluginRequest,
  RunPluginResponse,
  type RunRequest,
  RunResponse,
  RuntimeOptionsResponse,
} from "@pulumi/pulumi/proto/language_pb";
import { PluginInfo } from "@pulumi/pulumi/proto/plugin_pb";
import { version } from "@pulumi/pulumi/version";
import { Empty } from "google-protobuf/google/protobuf/empty_pb";
import {
  ended,
  type NodeProcess,
  runtimeOptions,
  sdkRunner,
  startNode,
  stopAll,
  stopNode,
} from "./node-process";
import { PolicyProxy } from "./policy-proxy";
import { refusal, servePlugin, withRefusals } from "./serve";

/**
 * A stand-in for `pulumi-language-nodejs`, for a machine that cannot get the
 * real one. It serves what `preview`, `up`, `refresh` and `destroy` need.
 *
 * Sources: the service is the SDK's own generated code (proto/language_*), the
 * programs that it starts and their arguments are the SDK's cmd/run,
 * cmd/run-policy-pack and cmd/run-plugin. What the real host does with them
 * (exit codes, working directories, order of arguments) is public in
 * pulumi/pulumi, sdk/nodejs/cmd/pulumi-language-nodejs.
 */

/** With this code the SDK's runners say: failed, and the user has been told why. */
const EXIT_AFTER_MESSAGE = 32;

/** The engine's address is the last argument; flags for logs and tracing may come before it. */
let engine = process.argv.slice(2).at(-1) ?? "";
const programs = new Set<NodeProcess>();

type Unary<Request, Response> = (request: Request, call: grpc.ServerUnaryCall<Request, Response>) => unknown;

/** A method whose errors reach the engine as their sentence alone. */
function unary<Request, Response>(method: Unary<Request, Response>): grpc.handleUnaryCall<Request, Response> {
  return (call, callback) => {
    Promise.resolve()
      .then(() => method(call.request, call))
      .then(
        (response) => callback(null, response as Response),
        (error: Error) => callback(refusal(grpc.status.UNKNOWN, error.message)),
      );
  };
}

/** Runs a program to its end. That it fails is an answer, not a failure of this call. */
async function run(
  request: RunRequest,
  call: grpc.ServerUnaryCall<RunRequest, RunResponse>,
): Promise<RunResponse> {
  let program: NodeProcess;
  try {
    program = startProgram(request);
  } catch (error) {
    return new RunResponse().setError((error as Error).message);
  }
  programs.add(program);
  call.on("cancelled", () => void stopNode(program));
  // The engine shows what this process prints; waiting for the end of the
  // output keeps it in front of the answer.
  program.stdout.pipe(process.stdout, { end: false });
  program.stderr.pipe(process.stderr, { end: false });
  try {
    const { code, signal } = await ended(program);
    if (code === 0) return new RunResponse();
    if (code === EXIT_AFTER_MESSAGE) return new RunResponse().setBail(true);
    return new RunResponse().setError(
      signal
        ? `The program was ended by ${signal}.`
        : `The program exited with non-zero exit code ${code}; its output says why.`,
    );
  } catch (error) {
    return new RunResponse().setError(`The program could not be started: ${(error as Error).message}`);
  } finally {
    programs.delete(program);
  }
}

function startProgram(request: RunRequest): NodeProcess {
  if (request.getAttachDebugger()) {
    throw new Error(
      "The stand-in for the Node language host cannot attach a debugger: run without --attach-debugger.",
    );
  }
  const info = request.getInfo();
  const directory = info?.getProgramDirectory() || request.getPwd();
  const options = runtimeOptions(info?.getOptions()?.toJavaScript());
  const flags: Record<string, string> = {
    monitor: request.getMonitorAddress(),
    engine,
    organization: request.getOrganization(),
    project: request.getProject(),
    "root-directory": info?.getRootDirectory() ?? "",
    stack: request.getStack(),
    pwd: directory,
    "dry-run": request.getDryrun() ? "true" : "",
    parallel: String(request.getParallel()),
  };
  const args = [
    ...options.nodeargs,
    sdkRunner("run", directory),
    ...Object.entries(flags).flatMap(([name, value]) => (value ? [`--${name}=${value}`] : [])),
    info?.getEntryPoint() || request.getProgram() || ".",
    ...request.getArgsList(),
  ];
  return startNode(args, directory, {
    ...process.env,
    ...options.env,
    PULUMI_CONFIG: JSON.stringify(Object.fromEntries(request.getConfigMap().toArray())),
    PULUMI_CONFIG_SECRET_KEYS: JSON.stringify(request.getConfigsecretkeysList()),
  });
}

type PluginCall = grpc.ServerWritableStream<RunPluginRequest, RunPluginResponse>;

/** Runs a policy pack, or another plugin written for Node, and streams its output and exit code. */
function runPlugin(call: PluginCall): void {
  servePluginCall(call).then(
    (code) => {
      call.write(new RunPluginResponse().setExitcode(code));
      call.end();
    },
    (error: Error) => call.emit("error", refusal(grpc.status.UNKNOWN, error.message)),
  );
}

async function servePluginCall(call: PluginCall): Promise<number> {
  const request = call.request;
  const directory = request.getInfo()?.getProgramDirectory() || request.getProgram();
  if (request.getAttachDebugger()) {
    throw new Error("The stand-in for the Node language host cannot attach a debugger to a plugin.");
  }
  const options = runtimeOptions(request.getInfo()?.getOptions()?.toJavaScript());
  const env = { ...parseEnvironment(request.getEnvList()), ...options.env };

  const start = (args: string[], cwd: string, more: Record<string, string> = {}) => {
    const plugin = startNode(args, cwd, { ...env, ...more });
    call.on("cancelled", () => void stopNode(plugin));
    plugin.stderr.on("data", (chunk: Buffer) => call.write(new RunPluginResponse().setStderr(chunk)));
    return plugin;
  };
  const sendOutput = (chunk: Buffer) => call.write(new RunPluginResponse().setStdout(chunk));
  // Like the real host, nodeargs come after the runner: they do not reach Node.
  // A pack that needs them to work here would not work there.
  const { nodeargs } = options;

  if (request.getKind() !== "analyzer") {
    const args = [sdkRunner("run-plugin", directory), ...nodeargs, directory, ...request.getArgsList()];
    const plugin = start(args, request.getPwd());
    plugin.stdout.on("data", sendOutput);
    return exitCode(plugin);
  }

  // Policy packs have always run in their own folder, which they are given last.
  const args = [sdkRunner("run-policy-pack", directory), ...nodeargs, ...request.getArgsList(), directory];
  return new Promise<number>((resolve, reject) => {
    const proxy = new PolicyProxy((more) => {
      const pack = start(args, directory, more);
      exitCode(pack)
        .then(resolve, reject)
        .finally(() => proxy.close());
      return pack;
    }, sendOutput);
    call.on("cancelled", () => {
      proxy.close();
      resolve(0); // nobody listens any more; without a pack nothing else would end this
    });
    proxy.listen().then((port) => sendOutput(Buffer.from(`${port}\n`)), reject);
  });
}

async function exitCode(plugin: NodeProcess): Promise<number> {
  const { code } = await ended(plugin);
  return code ?? 1; // ended by a signal
}

function parseEnvironment(entries: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    entries.map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
  );
}

const handlers = withRefusals(
  LanguageRuntimeService,
  {
    handshake: unary((request: LanguageHandshakeRequest) => {
      engine = request.getEngineAddress();
      return new LanguageHandshakeResponse();
    }),
    // The engine learns each plugin and its version from the resources as they are registered.
    getRequiredPackages: unary(() => new GetRequiredPackagesResponse()),
    getRequiredPlugins: unary(() => new GetRequiredPluginsResponse()),
    getPluginInfo: unary(() => new PluginInfo().setVersion(version)),
    runtimeOptionsPrompts: unary(() => new RuntimeOptionsResponse()),
    about: unary(() => {
      const about = new AboutResponse().setExecutable(process.execPath).setVersion(process.version);
      about.getMetadataMap().set("language host", "stand-in");
      return about;
    }),
    run: unary(run),
    runPlugin,
    cancel: unary(() => {
      for (const program of programs) void stopNode(program);
      return new Empty();
    }),
    installDependencies: (call: grpc.ServerWritableStream<unknown, unknown>) =>
      call.emit(
        "error",
        refusal(
          grpc.status.UNIMPLEMENTED,
          'The stand-in for the Node language host installs nothing: run "npm ci --ignore-scripts" yourself.',
        ),
      ),
  },
  (method) =>
    `The stand-in for the Node language host does not implement ${method}: use a Pulumi installation that has pulumi-language-nodejs.`,
);

void servePlugin(LanguageRuntimeService, handlers, stopAll);
