import { Option, type Command } from "commander";
import { step } from "../lib/progress";
import { UserError } from "../lib/user-error";
import { findPulumi } from "./pulumi";
import { Stack } from "./stack";
import { chooseTarget } from "./target";

/** What the commands on an environment have in common. */
export interface EnvironmentOptions {
  readonly context?: string;
  readonly sandbox?: string;
}

/** Adds the options that choose an environment. */
export function withEnvironmentOptions(command: Command): Command {
  return command
    .option("--context <name>", "deploy to this context of your kubeconfig, and bring no cluster")
    .addOption(
      new Option("--sandbox <name>", "use this sandbox cluster, even where kind could be used").conflicts(
        "context",
      ),
    );
}

/** The chosen environment, brought to where Pulumi commands run: a cluster, a CLI, a stack. */
export async function openEnvironment(options: EnvironmentOptions): Promise<Stack> {
  const target = await chooseTarget(options);
  const pulumi = await findPulumi();
  console.log(`Cluster: ${target.description}\nEngine:  ${pulumi.description}`);
  const stack = new Stack(pulumi, target);
  await step("stack", () => stack.prepare());
  return stack;
}

/** `pulumi up`, with its preview; policies and hooks see it before anything is changed. */
export async function deploy(stack: Stack): Promise<void> {
  const code = await step("pulumi up", () => stack.run(["up", "--yes", "--suppress-outputs"]), {
    ownOutput: true,
  });
  if (code !== 0) {
    throw new UserError(
      `pulumi up failed (see above); the same command goes on from there. State: ${stack.directory}.`,
    );
  }
}
