# An addon for one instruction set.
{
  "sources": ["<!@(node scripts/native-sources.mjs --variant)"],
  "dependencies": ["plinth-runtime"],
}
