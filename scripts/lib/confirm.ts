import * as readline from "node:readline/promises";
import { UserError } from "./user-error";

/**
 * Asks for a word before something that cannot be undone.
 *
 * @param consequence what is lost, in one sentence
 * @param word what the user has to type
 * @param yes that the user has already agreed on the command line
 */
export async function confirm(consequence: string, word: string, yes = false): Promise<void> {
  console.log(consequence);
  if (yes) return;
  if (!process.stdin.isTTY)
    throw new UserError("There is no terminal to ask on: add --yes if this is meant.");
  const terminal = readline.createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question(`Type ${word} to go on: `);
  terminal.close();
  if (answer !== word) throw new UserError("Nothing was removed.");
}
