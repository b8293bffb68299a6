import assert from "node:assert/strict";
import { importId, type ObjectKey, ownerLabels, refusal } from "../../components/ownership";

describe("ownership", () => {
  const owner = { project: "durable-postgres", stack: "prod" };
  const claim: ObjectKey = { kind: "PersistentVolumeClaim", name: "pgdata-big", namespace: "records" };
  const labels = ownerLabels(owner);

  it("imports by the provider's id", () => {
    assert.equal(importId(claim), "records/pgdata-big");
    assert.equal(importId({ kind: "Namespace", name: "records" }), "records");
  });

  it("takes the stack's own objects", () => {
    assert.equal(refusal(claim, { labels: { ...labels, other: "label" } }, owner), undefined);
  });

  for (const other of [
    { project: "durable-postgres", stack: "dev" },
    { project: "another", stack: "prod" },
  ]) {
    it(`never takes one of ${other.project}/${other.stack}`, () => {
      assert.equal(
        refusal(claim, { labels: ownerLabels(other) }, owner),
        `PersistentVolumeClaim records/pgdata-big belongs to stack ${other.stack} of project ${other.project}, ` +
          "not to stack prod of project durable-postgres: choose another namespace for this stack.",
      );
    });
  }

  it("never takes one that is being deleted, its own included", () => {
    assert.match(
      refusal(claim, { labels, deletionTimestamp: new Date() }, owner)!,
      /^PersistentVolumeClaim records\/pgdata-big is being deleted/,
    );
  });

  it("asks for a label where nobody is named, with the command", () => {
    assert.match(
      refusal(claim, {}, owner)!,
      /kubectl label persistentvolumeclaim pgdata-big -n records durable-postgres\/project=durable-postgres durable-postgres\/stack=prod`/,
    );
    assert.match(
      refusal({ kind: "Namespace", name: "records" }, {}, owner)!,
      /kubectl label namespace records durable-postgres\/project=/,
    );
  });
});
