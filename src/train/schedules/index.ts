import "./constant.ts";
import "./cosine.ts";
import "./wsd.ts";

export { defineSchedule, findSchedule, type Schedule, type ScheduleOptions, scheduleNames } from "./schedule.ts";
