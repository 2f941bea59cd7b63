export async function stay(_options: object): Promise<void> {}
