const { reporters } = require("mocha");

/** Mocha's own report, and a last line that people and CI systems read: `N passed, N failed, N skipped`. */
module.exports = class extends reporters.Spec {
  epilogue() {
    super.epilogue();
    const { passes, failures, pending } = this.stats;
    console.log(`${passes} passed, ${failures} failed, ${pending} skipped`);
  }
};
