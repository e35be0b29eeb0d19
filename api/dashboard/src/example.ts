/** An example of a job that the server can run: it names data that are registered. */

import type { DatasetKind, DatasetView } from './schema';

/** The prefix of what `lamina data generate` makes: it stands in where there is nothing better. */
const GENERATED = 'generated-';
/** Tasks that are small and differ in their metric, in the order in which an example takes them. */
const TASKS = ['rte', 'mrpc', 'cola', 'wnli', 'sts-b', 'sst-2', 'qnli', 'qqp', 'mnli'] as const;

/** The defaults of the API: they stand in the example because nobody can choose them after the submission. */
const RULES = '"speed": 0.02, "loss": 0.02, "score": 0.01, "spread": 1.5';

type Data = Pick<DatasetView, 'name' | 'kind' | 'facts'>;

/** The data that the example can use, best first: real ones come before generated ones. */
function ofKind(datasets: Data[], kind: DatasetKind): Data[] {
  const isGenerated = ({ name }: Data) => name.startsWith(GENERATED);
  return datasets.filter((data) => data.kind === kind).sort((a, b) => Number(isGenerated(a)) - Number(isGenerated(b)));
}

/** The kinds of data that the example cannot do without, and that nobody has registered. */
export function missing(datasets: Data[]): DatasetKind[] {
  return (['corpus', 'vocabulary'] as const).filter((kind) => ofKind(datasets, kind).length === 0);
}

/** The body of the example. Where no data are registered it names those that `lamina data generate` makes. */
export function exampleJob(datasets: Data[]): string {
  const corpus = ofKind(datasets, 'corpus')[0]?.name ?? 'generated-text';
  const vocabulary = ofKind(datasets, 'vocabulary')[0]?.name ?? 'generated-words';
  const glue = ofKind(datasets, 'glue')[0];
  const isSmall = corpus.startsWith(GENERATED);
  const [size, budget] = isSmall
    ? [
        '{"blocks": 4, "hidden": 64, "heads": 2, "intermediate": 256}',
        '"steps": 200, "batch": 16, "length": 32, "seeds": 1',
      ]
    : ['"narrow"', '"steps": 2000, "batch": 32, "length": 128, "seeds": 1'];
  const parts = [
    `"name": ${text(`pld on ${isSmall ? 'generated text' : corpus}`)}`,
    `"model": ${size}`,
    `"corpus": ${text(corpus)}`,
    `"vocabulary": ${text(vocabulary)}`,
    `"pretrain": {\n    ${budget},\n    "learning_rate": {"peak": 1e-3, "warmup": 0.02, "decay": "linear"}\n  }`,
    '"arms": [\n    {"name": "pre-ln"},\n' +
      '    {"name": "pld",\n     "layer_drop": {"schedule": "exponential", "theta_limit": 0.5}}\n  ]',
    '"baseline": "pre-ln"',
    ...(glue || datasets.length === 0 ? [gluePart(glue, isSmall)] : []),
    `"rules": {\n    "margins": {${RULES}}\n  }`,
  ];
  return `{\n  ${parts.join(',\n  ')}\n}`;
}

/** Fine-tuning on up to three tasks that the folder has; `glue` is undefined if generated data are still to come. */
function gluePart(glue: Data | undefined, isSmall: boolean): string {
  const examples = glue?.facts.kind === 'glue' ? glue.facts.examples : { rte: 1 };
  const tasks = TASKS.filter((task) => task in examples).slice(0, isSmall ? 1 : 3);
  const name = glue?.name ?? 'generated-glue';
  const cost = isSmall
    ? '"seeds": 3, "epochs": 1, "length": 32'
    : '"seeds": 5, "epochs": 3, "learning_rates": [1e-4]';
  return `"glue": {\n    "dataset": ${text(name)}, "tasks": [${tasks.map(text).join(', ')}],\n    ${cost}\n  }`;
}

const text = (value: string) => JSON.stringify(value);

/** The commands that post a body, where `lamina up` runs; the shell leaves what is in single quotes as it is. */
export function curlOf(origin: string, body: string): string {
  return `LAMINA_TOKEN=$(cat ~/.local/share/lamina/token)  # or the token with which you signed in
curl ${origin}/jobs \\
  -H "Authorization: Bearer $LAMINA_TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '${body.replaceAll("'", "'\\''")}'`;
}

/** The commands that download data for a first job, and register them. */
export const FETCH = `lamina data fetch
lamina data import ~/.local/share/lamina/data`;

/** The commands that make a substitute without network, and register it. */
export const GENERATE = `lamina data generate --out ~/.local/share/lamina/data/generated
lamina data import ~/.local/share/lamina/data/generated`;
