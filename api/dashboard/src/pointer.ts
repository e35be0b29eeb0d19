/** Finds the value that an RFC 6901 pointer names in JSON text, so that an editor can select it. */

export interface Span {
  start: number;
  end: number;
}

/** Start and end of the value; if it is missing, those of the innermost object that should contain it. */
export function locate(text: string, pointer: string): Span | undefined {
  const path = pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
  const scan = new Scan(text);
  try {
    scan.value([], path);
  } catch {
    // In text that is no JSON, the best place found before the error is still shown.
  }
  return scan.best;
}

/** A JSON reader that keeps positions and nothing else. */
class Scan {
  best: Span | undefined;
  #depth = -1;
  #at = 0;

  constructor(readonly text: string) {}

  value(here: string[], wanted: string[]): void {
    this.#space();
    const start = this.#at;
    const first = this.text[start];
    if (first === '{') this.#members(here, wanted);
    else if (first === '[') this.#elements(here, wanted);
    else this.#match(first === '"' ? STRING : SCALAR);
    const onPath = here.length <= wanted.length && here.every((part, i) => part === wanted[i]);
    if (onPath && here.length > this.#depth) {
      this.#depth = here.length;
      this.best = { start, end: this.#at };
    }
    this.#space();
  }

  #members(here: string[], wanted: string[]): void {
    this.#at++;
    this.#space();
    while (this.text[this.#at] !== '}') {
      const key = JSON.parse(this.#match(STRING)) as string;
      this.#match(/\s*:/y);
      this.value([...here, key], wanted);
      this.#match(/,?\s*/y);
    }
    this.#at++;
  }

  #elements(here: string[], wanted: string[]): void {
    this.#at++;
    this.#space();
    for (let i = 0; this.text[this.#at] !== ']'; i++) {
      this.value([...here, String(i)], wanted);
      this.#match(/,?\s*/y);
    }
    this.#at++;
  }

  #space(): void {
    this.#match(/\s*/y);
  }

  #match(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.text);
    if (found === null) throw new SyntaxError(`no JSON at ${this.#at}`);
    this.#at = pattern.lastIndex;
    return found[0];
  }
}

const STRING = /"(?:[^"\\]|\\.)*"/y;
const SCALAR = /true|false|null|-?\d[-+.\w]*/y;
