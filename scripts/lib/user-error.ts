/**
 * A failure that the user can act on. Its message is one sentence that says
 * what is wrong, where, and what to do; command line tools print it alone,
 * without a stack trace, and exit with 1.
 */
export class UserError extends Error {
  override readonly name = "UserError";
}
