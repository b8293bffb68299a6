import { SubprocessError } from "nano-spawn";
import { UserError } from "./user-error";

/**
 * Runs the body of a command line tool: a {@link UserError} is printed as its
 * one sentence, anything else with its stack, and both exit with 1. Ctrl-C ends
 * the tool with 130, after the programs it started have got the signal too.
 */
export function main(body: () => Promise<void>): void {
  process.once("SIGINT", () => {
    console.error("\nInterrupted. Nothing half-done is left behind; the same command goes on from here.");
    process.exit(130);
  });
  process.once("SIGTERM", () => process.exit(143));
  body().catch((error: unknown) => {
    if (error instanceof UserError) console.error(`error: ${error.message}`);
    else if (error instanceof SubprocessError)
      console.error(`error: ${error.message}\n${error.stderr || error.stdout}`);
    else console.error(error);
    process.exit(1);
  });
}
