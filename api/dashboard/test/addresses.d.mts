export function addresses(job: string, trial: string): string[];
