import { Command } from "commander";
import { confirm } from "../lib/confirm";
import { main } from "../lib/command";
import { forgetEnvironment } from "../environment/stack";
import { sandboxEnvironment } from "../environment/target";
import { step } from "../lib/progress";
import { UserError } from "../lib/user-error";
import { sandboxParts } from "../toolchain/assemble";
import { Instance } from "./instance";
import * as lifecycle from "./lifecycle";

interface Options {
  readonly name: string;
}

const program = new Command("npm run sandbox --")
  .description("A one-node Kubernetes cluster in namespaces of its own; no packet of it leaves this machine.")
  .showHelpAfterError();

function command(name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .option("--name <name>", "which sandbox cluster", "dev");
}

command("up", "bring the cluster up, or mend one of which parts are missing")
  .option(
    "--port <port>",
    "port of the API server on 127.0.0.1 (default: the one of the last time, else a free one)",
    parsePort,
  )
  .action(async ({ name, port }: Options & { port?: number }) => {
    const instance = new Instance(name);
    const parts = await sandboxParts();
    await step(`sandbox cluster "${name}"`, () => lifecycle.up(instance, parts, { port }));
    printAccess(instance);
  });

command("down", "stop the cluster and leave nothing of it but its data").action(async ({ name }: Options) => {
  const instance = new Instance(name);
  await step(`stopping sandbox cluster "${name}"`, () => lifecycle.down(instance));
  console.log(`Stopped; its volumes stay in ${instance.directory}.`);
});

command("status", "say what runs; exit code 1 if something is missing").action(async ({ name }: Options) => {
  const instance = new Instance(name);
  const status = await lifecycle.status(instance);
  if (!status.running) {
    console.log(
      `Sandbox cluster "${name}" is not running: start it with "npm run sandbox -- up --name ${name}".`,
    );
    process.exitCode = 1;
  } else if (status.missing.length > 0 || !status.apiServer) {
    const what = status.missing.length > 0 ? status.missing.join(", ") : "the API server does not answer";
    console.log(
      `Sandbox cluster "${name}" is damaged (missing: ${what}): mend it with "npm run sandbox -- up --name ${name}".`,
    );
    process.exitCode = 1;
  } else {
    console.log(`Sandbox cluster "${name}" is running.`);
    printAccess(instance);
  }
});

command("reset", "stop the cluster and remove all of its data, volumes included")
  .option("--yes", "do not ask")
  .action(async ({ name, yes }: Options & { yes?: boolean }) => {
    const instance = new Instance(name);
    await confirm(
      `This removes every volume of sandbox cluster "${name}" in ${instance.directory}, with all databases on them, and the Pulumi state of what was deployed there.`,
      name,
      yes,
    );
    await step(`removing sandbox cluster "${name}"`, () => {
      forgetEnvironment(sandboxEnvironment(name)); // first: a state without its cluster would be in the way
      return lifecycle.reset(instance);
    });
  });

function printAccess(instance: Instance): void {
  console.log(`  kubectl --kubeconfig ${instance.kubeconfig} get nodes`);
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new UserError(`--port ${text} is no port: name a number from 1 to 65535.`);
  }
  return port;
}

main(async () => void (await program.parseAsync()));
