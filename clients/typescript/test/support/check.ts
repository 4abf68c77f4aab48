/** Fails where two values are not the same as JSON. Also in a browser, where there is no `node:assert`. */
export function same(got: unknown, expected: unknown): void {
  const [a, b] = [JSON.stringify(got), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${a} is not ${b}`);
}

/** The `code` of the error with which a promise is rejected. */
export async function codeOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (fault) {
    return (fault as { code?: unknown }).code ?? fault;
  }
  return "no error";
}
