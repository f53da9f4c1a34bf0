/* See run_search.h. */
#include "daemon/flow/run_search.h"

struct page {
	struct run_search *search;
	bool is_empty;
};

static int on_run(void *arg, const struct run_info *run)
{
	struct page *p = arg;
	struct run_search *s = p->search;

	p->is_empty = false;
	s->after = run->id;
	if ((s->is_any || run->uid == s->uid) && run_is_called(run, s->wanted)) {
		*s->run = *run;
		s->found++;
	}
	return 0;
}

int run_search_next(struct run_search *s, struct reader *r)
{
	struct page p = {.search = s, .is_empty = true};
	int result = reader_runs(r, s->after, on_run, &p);

	return result < 0 ? result : !p.is_empty;
}

const char *run_search_failure(const struct run_search *s)
{
	return s->found == 0 ? "there is no run of that name that is yours; wbxctl runs lists them"
			     : "several runs have that id; say entity/project/id";
}
