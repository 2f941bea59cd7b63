/** What a command says that has changed a file which the running daemon follows. */
export const WHEN_IN_FORCE =
  "A running gateway takes it over by itself within ten seconds; to have it at once: systemctl reload summit-edge";
