import { Command, InvalidArgumentError } from "commander";
import { main } from "../lib/command";
import { measureSetup } from "./setup";

const program = new Command("npm run bench --")
  .description("Measure; nothing here is a test.")
  .showHelpAfterError();

program
  .command("setup")
  .description("set-up, start and preview on a sandbox cluster of its own; prints a Markdown table")
  .option(
    "--cold",
    "also the first set-up of a machine: with an empty home directory and empty caches",
    false,
  )
  .option("--runs <n>", "runs of each measurement; the median is shown", parseRuns, 3)
  .action(async (options: { cold: boolean; runs: number }) => console.log(await measureSetup(options)));

function parseRuns(text: string): number {
  const runs = Number(text);
  if (!Number.isInteger(runs) || runs < 1) throw new InvalidArgumentError("Name a whole number from 1 on.");
  return runs;
}

main(async () => void (await program.parseAsync()));
