/* Time, with a hand that tests can hold. Any thread; the test hand is set before threads start. */
#pragma once

#include <stdint.h>

/* Since some start, never back: what waits are measured with. */
uint64_t clock_mono_ns(void);
uint64_t clock_mono_ms(void);

/* Microseconds since 1970, UTC: what records are stamped with. May jump. */
uint64_t clock_wall_us(void);

/* Tests only: from now on the clocks stand at these values; 0, 0 gives the real ones back. */
void clock_set(uint64_t mono_ns, uint64_t wall_us);
