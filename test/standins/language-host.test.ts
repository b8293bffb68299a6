import * as assert from "node:assert/strict";
import * as fs from "node:fs";
import * as path from "node:path";
import * as grpc from "@grpc/grpc-js";
import { LanguageRuntimeService } from "@pulumi/pulumi/proto/language_grpc_pb";
import {
  AboutRequest,
  GetRequiredPackagesRequest,
  InstallDependenciesRequest,
  type InstallDependenciesResponse,
  LanguageHandshakeRequest,
  PackRequest,
  ProgramInfo,
  RunPluginRequest,
  RunPluginResponse,
  RunRequest,
  type RunResponse,
} from "@pulumi/pulumi/proto/language_pb";
import { Empty } from "google-protobuf/google/protobuf/empty_pb";
import { type JavaScriptValue, Struct } from "google-protobuf/google/protobuf/struct_pb";
import { installLanguageHost } from "../../scripts/standins/install";
import { runtimeOptions, splitWords } from "../../scripts/standins/node-process";
import {
  call,
  isAlive,
  type PluginProcess,
  startEngine,
  startPlugin,
  temporaryFolder,
  until,
  writeProject,
} from "./helpers";

describe("stand-in for the Node language host: options", () => {
  it("splits nodeargs as a shell does", () => {
    assert.deepEqual(splitWords(""), []);
    assert.deepEqual(splitWords("  --import   tsx "), ["--import", "tsx"]);
    assert.deepEqual(splitWords(`--a='b c' "d \\"e" f\\ g ''`), ["--a=b c", 'd "e', "f g", ""]);
    assert.throws(() => splitWords(`--a='b`), /open quote/);
  });

  it("checks runtime options", () => {
    assert.deepEqual(runtimeOptions().env, { PULUMI_NODEJS_TYPESCRIPT: "true" });
    assert.deepEqual(runtimeOptions({ typescript: false, tsconfig: "t.json" }).env, {
      PULUMI_NODEJS_TSCONFIG_PATH: "t.json",
    });
    assert.throws(() => runtimeOptions({ typescript: "no" }), /runtime.options.typescript must be/);
    assert.throws(() => runtimeOptions({ nodeargs: 3 }), /runtime.options.nodeargs must be/);
  });
});

describe("stand-in for the Node language host: protocol", function () {
  this.timeout(60_000);
  const { folder, remove } = temporaryFolder();
  const started: PluginProcess[] = [];
  let engine: Awaited<ReturnType<typeof startEngine>>;
  let host: PluginProcess;

  async function startHost(): Promise<PluginProcess> {
    const launcher = installLanguageHost(path.join(folder, "bin"), process.execPath);
    const plugin = await startPlugin(launcher, engine.address);
    started.push(plugin);
    return plugin;
  }

  before(async () => {
    engine = await startEngine();
    host = await startHost();
  });
  after(() => {
    for (const { child } of started) child.kill("SIGINT");
    engine.stop();
    remove();
  });

  let projects = 0;
  const project = (files: Record<string, string>) =>
    writeProject(path.join(folder, `project-${projects++}`), { "package.json": "{}", ...files });

  const info = (directory: string, options: Record<string, JavaScriptValue>, entryPoint = ".") =>
    new ProgramInfo()
      .setRootDirectory(directory)
      .setProgramDirectory(directory)
      .setEntryPoint(entryPoint)
      .setOptions(Struct.fromJavaScript(options));

  /** Asks the host to run a program. */
  async function run(
    directory: string,
    change: (request: RunRequest) => RunRequest = (request) => request,
    options: Record<string, JavaScriptValue> = { typescript: false },
    entryPoint?: string,
  ): Promise<RunResponse> {
    const request = new RunRequest()
      .setProject("shop")
      .setStack("dev")
      .setOrganization("org")
      .setPwd(directory)
      .setParallel(7)
      .setMonitorAddress(engine.address)
      .setInfo(info(directory, options, entryPoint));
    const { response, error } = await call(host.port, LanguageRuntimeService.run, change(request));
    assert.ifError(error);
    return response as RunResponse;
  }

  it("answers handshake, about, required packages and plugin info", async () => {
    const handshake = new LanguageHandshakeRequest().setEngineAddress(engine.address);
    assert.ifError((await call(host.port, LanguageRuntimeService.handshake, handshake)).error);
    const about = await call(host.port, LanguageRuntimeService.about, new AboutRequest());
    assert.equal(about.response?.getVersion(), process.version);
    const packages = await call(
      host.port,
      LanguageRuntimeService.getRequiredPackages,
      new GetRequiredPackagesRequest(),
    );
    assert.deepEqual(packages.response?.getPackagesList(), []);
    const plugin = await call(host.port, LanguageRuntimeService.getPluginInfo, new Empty());
    assert.equal(plugin.response?.getVersion(), "3.259.0");
  });

  it("gives the program its config, stack, dry run, arguments, folder and Node's arguments", async () => {
    const directory = project({
      "index.ts": `
        import * as fs from "node:fs";
        import * as pulumi from "@pulumi/pulumi";
        const config = new pulumi.Config();
        const seen: object = {
          name: config.require("name"), secret: pulumi.runtime.isConfigSecret("shop:name"),
          stack: pulumi.getStack(), project: pulumi.getProject(), organization: pulumi.getOrganization(),
          root: pulumi.getRootDirectory(), dryRun: pulumi.runtime.isDryRun(),
          parallel: process.env.PULUMI_NODEJS_PARALLEL, argv: process.argv.slice(2), cwd: process.cwd(),
          typescript: process.env.PULUMI_NODEJS_TYPESCRIPT,
        };
        fs.writeFileSync("seen.json", JSON.stringify(seen));`,
    });
    const response = await run(
      directory,
      (request) => {
        request.getConfigMap().set("shop:name", "=a b").set("shop:other", "{}");
        return request
          .setDryrun(true)
          .setArgsList(["one", "--", "--two"])
          .setConfigsecretkeysList(["shop:name"]);
      },
      { typescript: false, nodeargs: "--import tsx" },
      "index.ts",
    );
    assert.equal(response.getError(), "", host.output());
    assert.deepEqual(JSON.parse(fs.readFileSync(path.join(directory, "seen.json"), "utf8")), {
      name: "=a b",
      secret: true,
      stack: "dev",
      project: "shop",
      organization: "org",
      root: directory,
      dryRun: true,
      parallel: "7",
      argv: ["one", "--two"],
      cwd: directory,
    });
  });

  it("passes on what a program prints, and reports its exit code in a sentence", async () => {
    const directory = project({
      "index.js": `console.log("to stdout"); console.error("to stderr"); process.exit(3);`,
    });
    const response = await run(directory);
    assert.match(response.getError(), /non-zero exit code 3/);
    assert.equal(response.getBail(), false);
    await until(
      () => /to stdout/.test(host.output()) && /to stderr/.test(host.output()),
      "the program's output",
    );
  });

  it("reports success, and bails when the program threw and the SDK has told the user", async () => {
    assert.deepEqual((await run(project({ "index.js": "exports.answer = 42;" }))).toObject(), {
      error: "",
      bail: false,
    });
    const thrown = await run(project({ "index.js": `throw new Error("no such shop");` }));
    assert.deepEqual(thrown.toObject(), { error: "", bail: true });
    assert.match(engine.logs.join("\n"), /no such shop/);
  });

  it("bails without a further message at exit code 32", async () => {
    const response = await run(project({ "index.js": "process.exit(32);" }));
    assert.deepEqual([response.getBail(), response.getError()], [true, ""]);
  });

  it("says in a sentence that a program was killed, or has no SDK, or wants a debugger", async () => {
    const killed = await run(project({ "index.js": `process.kill(process.pid, "SIGKILL");` }));
    assert.match(killed.getError(), /ended by SIGKILL/);
    const bare = path.join(folder, "bare");
    fs.mkdirSync(bare);
    assert.match((await run(bare)).getError(), /has no @pulumi\/pulumi .*npm ci/);
    const debugged = await run(project({}), (request) => request.setAttachDebugger(true));
    assert.match(debugged.getError(), /cannot attach a debugger/);
  });

  it("refuses in a sentence what it does not implement", async () => {
    const { error } = await call(host.port, LanguageRuntimeService.pack, new PackRequest());
    assert.equal(error?.code, grpc.status.UNIMPLEMENTED);
    assert.match(error.details, /does not implement pack/);
    const client = new grpc.Client(`127.0.0.1:${host.port}`, grpc.credentials.createInsecure());
    const method = LanguageRuntimeService.installDependencies;
    const install = client.makeServerStreamRequest<InstallDependenciesRequest, InstallDependenciesResponse>(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      new InstallDependenciesRequest(),
    );
    const failure = await new Promise<grpc.ServiceError>((resolve) => install.on("error", resolve).resume());
    assert.match(failure.details, /npm ci --ignore-scripts/);
    client.close();
  });

  /** Runs a plugin; `onOutput` may cancel the call. */
  function runPlugin(request: RunPluginRequest) {
    const client = new grpc.Client(`127.0.0.1:${host.port}`, grpc.credentials.createInsecure());
    const method = LanguageRuntimeService.runPlugin;
    const stream = client.makeServerStreamRequest<RunPluginRequest, RunPluginResponse>(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
    );
    const seen = { stdout: "", stderr: "", exitCode: undefined as number | undefined, error: "" };
    const done = new Promise<void>((resolve) => {
      stream.on("data", (message: RunPluginResponse) => {
        seen.stdout += Buffer.from(message.getStdout_asU8()).toString();
        seen.stderr += Buffer.from(message.getStderr_asU8()).toString();
        if (message.hasExitcode()) seen.exitCode = message.getExitcode();
      });
      stream.on("error", (error: grpc.ServiceError) => (seen.error = error.details));
      stream.on("close", () => (client.close(), resolve()));
    });
    return { stream, seen, done };
  }

  it("runs another plugin for Node, with its environment, and streams output and exit code", async () => {
    const directory = project({
      "index.js": `console.log(process.env.COLOUR, process.cwd()); console.error("oops"); process.exit(5);`,
    });
    const { seen, done } = runPlugin(
      new RunPluginRequest()
        .setPwd(folder)
        .setKind("resource")
        .setEnvList([`PATH=${process.env.PATH ?? ""}`, "COLOUR=red=ish"])
        .setInfo(info(directory, {})),
    );
    await done;
    assert.deepEqual([seen.stdout, seen.stderr, seen.exitCode], [`red=ish ${folder}\n`, "oops\n", 5]);
  });

  it("leaves no program behind when the engine cancels", async () => {
    const directory = project({
      "index.js": `require("fs").writeFileSync("pid", String(process.pid)); setInterval(() => {}, 1000);`,
    });
    const pidFile = path.join(directory, "pid");
    const answer = run(directory);
    await until(
      () => fs.existsSync(pidFile) && fs.readFileSync(pidFile, "utf8") !== "",
      "the program starts",
    );
    assert.ifError((await call(host.port, LanguageRuntimeService.cancel, new Empty())).error);
    assert.match((await answer).getError(), /ended by SIGINT/);
    assert.equal(isAlive(Number(fs.readFileSync(pidFile, "utf8"))), false);
  });

  for (const [how, end] of [
    ["SIGINT", (plugin: PluginProcess) => plugin.child.kill("SIGINT")],
    ["the death of the engine", (plugin: PluginProcess) => plugin.child.stdin.end()],
  ] as const) {
    it(`leaves no stubborn program behind after ${how}`, async () => {
      const own = await startHost();
      const directory = project({
        "index.js": `
          process.on("SIGINT", () => {});
          require("fs").writeFileSync("pid", String(process.pid)); setInterval(() => {}, 1000);`,
      });
      const pidFile = path.join(directory, "pid");
      const request = new RunRequest().setMonitorAddress(engine.address).setInfo(info(directory, {}));
      void call(own.port, LanguageRuntimeService.run, request);
      await until(
        () => fs.existsSync(pidFile) && fs.readFileSync(pidFile, "utf8") !== "",
        "the program starts",
      );
      end(own);
      // The engine kills after five seconds; this must have been done by then.
      await until(() => own.child.exitCode !== null, "the host ends", 5);
      assert.equal(isAlive(Number(fs.readFileSync(pidFile, "utf8"))), false);
    });
  }
});

describe("launchers of the stand-ins", () => {
  const { folder, remove } = temporaryFolder();
  after(remove);

  it("are left alone when right and rewritten when not", () => {
    const file = installLanguageHost(folder, "/a node/it's");
    assert.equal(path.basename(file), "pulumi-language-nodejs");
    assert.equal(fs.statSync(file).mode & 0o111, 0o111);
    const written = fs.statSync(file).mtimeMs;
    installLanguageHost(folder, "/a node/it's");
    assert.equal(fs.statSync(file).mtimeMs, written);
    fs.writeFileSync(file, "#!/bin/sh\nexit 1\n");
    installLanguageHost(folder, "/a node/it's");
    assert.match(fs.readFileSync(file, "utf8"), /^exec '\/a node\/it'\\''s' '--import'/m);
    assert.deepEqual(fs.readdirSync(folder), ["pulumi-language-nodejs"]);
  });
});
