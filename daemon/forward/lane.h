/* In which order bytes go out when not all can: whoever is in a higher lane first. Numbers rise from
 * the highest lane to the lowest. */
#pragma once

enum lane {
	LANE_METRICS, /* a run's life, its rows, its summary, alerts, questions: all POSTs to W&B */
	LANE_TABLES,  /* run files that a row names: tables, images and their kin */
	LANE_TRACES,
	LANE_FILES, /* run files that nothing names, and the files of artifacts */
	LANES
};
