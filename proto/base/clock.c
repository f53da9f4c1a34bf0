/* See clock.h. */
#include "proto/base/clock.h"

#include <stdatomic.h>
#include <time.h>

static _Atomic uint64_t fixed_mono_ns;
static _Atomic uint64_t fixed_wall_us;

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts = {0};

	(void)clock_gettime(id, &ts); /* cannot fail for these clocks */
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_ns(void)
{
	uint64_t fixed = atomic_load_explicit(&fixed_mono_ns, memory_order_relaxed);

	return fixed != 0 ? fixed : clock_ns(CLOCK_MONOTONIC);
}

uint64_t clock_mono_ms(void)
{
	return clock_mono_ns() / 1000000u;
}

uint64_t clock_wall_us(void)
{
	uint64_t fixed = atomic_load_explicit(&fixed_wall_us, memory_order_relaxed);

	return fixed != 0 ? fixed : clock_ns(CLOCK_REALTIME) / 1000u;
}

void clock_set(uint64_t mono_ns, uint64_t wall_us)
{
	atomic_store(&fixed_mono_ns, mono_ns);
	atomic_store(&fixed_wall_us, wall_us);
}
