// The order of layers in ARCHITECTURE.md: each may import only those before it, and other folders only through index.ts.
const layers = ["base", "sandbox", "engine", "data", "models", "train", "generate", "adapt", "evaluate", "pipelines", "cli"];

const upward = (order) =>
  order.slice(0, -1).map((layer, i) => ({
    name: `no-upward-${layer}`,
    comment: `${layer} may not import what comes after it: ${order.slice(i + 1).join(", ")}`,
    severity: "error",
    from: { path: `^src/${layer}/` },
    to: { path: `^src/(${order.slice(i + 1).join("|")})/` },
  }));

export default {
  forbidden: [
    ...upward(layers),
    {
      name: "no-cycle",
      severity: "error",
      from: { path: "^src/" },
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    ...layers.map((layer) => ({
      name: `no-deep-import-${layer}`,
      comment: `import ${layer} through its index.ts`,
      severity: "error",
      from: { path: "^src/", pathNot: `^src/${layer}/` },
      to: { path: `^src/${layer}/`, pathNot: `^src/${layer}/index\\.ts$` },
    })),
    {
      name: "no-unresolvable",
      severity: "error",
      from: { path: "^src/" },
      to: { couldNotResolve: true },
    },
    {
      name: "no-dev-dependency",
      severity: "error",
      from: { path: "^src/" },
      to: { dependencyTypes: ["npm-dev"], dependencyTypesNot: ["type-only"] },
    },
  ],
  options: {
    parser: "swc",
    tsPreCompilationDeps: true,
    doNotFollow: { path: "node_modules" },
    enhancedResolveOptions: { exportsFields: ["exports"], conditionNames: ["import", "node", "default"] },
  },
};
