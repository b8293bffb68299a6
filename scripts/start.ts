import { Command } from "commander";
import { addressOf, withDatabase } from "./environment/database";
import {
  deploy,
  type EnvironmentOptions,
  openEnvironment,
  withEnvironmentOptions,
} from "./environment/environment";
import type { Stack } from "./environment/stack";
import { main } from "./lib/command";
import { formatSeconds, step } from "./lib/progress";

const program = withEnvironmentOptions(new Command("npm start --"))
  .description("Deploy stack dev: a cluster if none is given, then pulumi up, then a row written and read.")
  .showHelpAfterError();

main(async () => {
  const started = Date.now();
  const stack = await openEnvironment(program.parse().opts<EnvironmentOptions>());
  await deploy(stack);
  const outputs = await stack.outputs();
  const rows = await step("writing and reading a row", () => writeAndReadRow(stack, outputs));
  console.log(`Row ${rows.count} was written and read; the first is of ${rows.first.toISOString()}.`);
  printNextSteps(stack, outputs);
  console.log(`Done in ${formatSeconds((Date.now() - started) / 1000)}.`);
});

/** Leaves a row a run in a schema of its own, so that the count shows what survived. */
function writeAndReadRow(
  stack: Stack,
  outputs: Record<string, unknown>,
): Promise<{ count: number; first: Date }> {
  return withDatabase(addressOf(stack.target, outputs), async (client) => {
    await client.query("CREATE SCHEMA IF NOT EXISTS durable_postgres");
    await client.query(
      "CREATE TABLE IF NOT EXISTS durable_postgres.start (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, written_at timestamptz NOT NULL DEFAULT now())",
    );
    const written = await client.query<{ id: string }>(
      "INSERT INTO durable_postgres.start DEFAULT VALUES RETURNING id",
    );
    const read = await client.query<{ count: string; first: Date; mine: boolean }>(
      "SELECT count(*), min(written_at) AS first, bool_or(id = $1) AS mine FROM durable_postgres.start",
      [written.rows[0]!.id],
    );
    const { count, first, mine } = read.rows[0]!;
    if (!mine) throw new Error("the row that was just written is not there");
    return { count: Number(count), first };
  });
}

function printNextSteps(stack: Stack, outputs: Record<string, unknown>): void {
  const { namespace, superuserSecret, dataClaim, port, database } = outputs as Record<string, string>;
  const { kubeconfig, context, volumes, kubectl: program = "kubectl", options } = stack.target;
  const kubectl = [program, ...(kubeconfig ? ["--kubeconfig", kubeconfig] : []), "--context", context];
  const inNamespace = [...kubectl, "--namespace", namespace].join(" ");
  console.log(`
Connect
  ${inNamespace} exec -it deploy/postgres -- psql -U postgres ${database}
or, from this machine, with any client:
  ${inNamespace} port-forward service/postgres ${port}:${port} &
  export PGPASSWORD="$(${inNamespace} get secret ${superuserSecret} -o jsonpath='{.data.password}' | base64 -d)"
  psql -h 127.0.0.1 -p ${port} -U postgres ${database}

Where things are
  data          claim ${dataClaim} in namespace ${namespace}${volumes ? `, on this machine in ${volumes}` : ""}
  Pulumi state  ${stack.path("backend")} (passphrase and configuration beside it: keep all three)

Next
  npm run pulumi -- ${options}preview        what an up would change
${volumes ? `  npm run sandbox -- status        the cluster; "down" stops it and keeps its volumes\n` : ""}  npm test                         every test, on clusters of its own
`);
}
