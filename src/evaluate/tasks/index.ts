// Every benchmark is a file here that registers itself; this list is what loads them.
import "./blimp.ts";
import "./humaneval.ts";
import "./infill-lines.ts";
import "./infill-words.ts";
import "./mbpp.ts";
import "./perplexity.ts";
import "./sst2.ts";
import "./skills.ts";
