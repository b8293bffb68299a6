import { Command } from "commander";
import { type EnvironmentOptions, openEnvironment, withEnvironmentOptions } from "./environment/environment";
import { main } from "./lib/command";

const program = withEnvironmentOptions(new Command("npm run pulumi --"))
  .description(
    "Run a Pulumi command on the stack that npm start deploys, for example: npm run pulumi -- preview --diff",
  )
  .argument("<command...>", "Pulumi command with its options")
  .passThroughOptions()
  .allowUnknownOption();

main(async () => {
  program.parse();
  const stack = await openEnvironment(program.opts<EnvironmentOptions>());
  process.exitCode = await stack.run(program.args);
});
