/** How the lines of an arm look: the same on every page and in every chart and legend of a job. */

export interface Look {
  /** Number of the colour, `--arm-0` to `--arm-5` in the style sheet. */
  colour: number;
  /** Lengths in pixels of dashes and gaps in turn; empty for a solid line. */
  dash: readonly number[];
}

/** Number of colours that people with any colour vision can tell apart. */
export const COLOURS = 6;

/** Six arms have solid lines, six more the next pattern, and so on. */
const DASHES: readonly (readonly number[])[] = [[], [7, 3], [2, 2], [9, 3, 2, 3], [4, 5], [12, 2, 4, 2]];

/** Start of the hash. With this one, the arms that most examples name have different colours. */
const SEED = 2238;

/**
 * The looks of a job's arms, all different for up to 36 arms. An arm has the colour that its name prefers, which it
 * then has in every job, unless another arm of this job prefers the same one. Shorter names choose first, because they
 * are those of the arms from which the others were made: `pld` keeps its colour beside `pld-cosine`.
 */
export function looks(arms: string[]): Map<string, Look> {
  const taken = new Set<number>();
  const places = new Map<string, number>();
  const take = (arm: string, place: number) => {
    if (places.has(arm) || taken.has(place)) return;
    taken.add(place);
    places.set(arm, place);
  };
  const inTurn = [...new Set(arms)].sort((a, b) => a.length - b.length);
  for (const arm of inTurn) take(arm, preferred(arm));
  for (const arm of inTurn) {
    for (let round = 0; !places.has(arm); round++) {
      for (let i = 0; i < COLOURS; i++) take(arm, round * COLOURS + ((preferred(arm) + i) % COLOURS));
    }
  }
  return new Map([...places].map(([arm, place]) => [arm, lookAt(place)]));
}

function lookAt(place: number): Look {
  return { colour: place % COLOURS, dash: DASHES[Math.floor(place / COLOURS) % DASHES.length]! };
}

/** The colour that a name prefers: an FNV-1a hash with a final mix, so that names of one beginning differ. */
function preferred(name: string): number {
  let hash = SEED;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 16777619);
  hash = Math.imul(hash ^ (hash >>> 15), 2246822519);
  return ((hash ^ (hash >>> 13)) >>> 0) % COLOURS;
}
