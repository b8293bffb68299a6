import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { SubprocessError } from "nano-spawn";
import { UserError } from "./user-error";

/** Running programs that end in good order by themselves when they are interrupted. */
const orderly = new Set<ChildProcess>();

/** Makes an interrupted tool wait for the end of `child`, which gets the terminal's signal too. */
export function endsInOrder(child: ChildProcess): void {
  orderly.add(child);
  child.once("exit", () => orderly.delete(child));
}

/**
 * Runs the body of a command line tool: a {@link UserError} is printed as its
 * one sentence, anything else with its stack, and both exit with 1. Ctrl-C ends
 * the tool with 130, after the programs that {@link endsInOrder}.
 */
export function main(body: () => Promise<void>): void {
  process.once("SIGINT", () => void interrupted());
  process.once("SIGTERM", () => process.exit(143));
  body().catch((error: unknown) => {
    if (error instanceof UserError) console.error(`error: ${error.message}`);
    else if (error instanceof SubprocessError) {
      console.error(`error: ${error.message}\n${error.stderr || error.stdout}`);
    } else console.error(error);
    process.exit(1);
  });
}

async function interrupted(): Promise<never> {
  process.once("SIGINT", () => process.exit(130)); // asked twice: do not wait
  await Promise.all([...orderly].map((child) => once(child, "exit")));
  console.error("\nInterrupted. Run the same command again: it goes on from here.");
  process.exit(130);
}
