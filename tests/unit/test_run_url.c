#include "daemon/flow/run_url.h"
#include "tests/lib/suite.h"

START_TEST(a_run_is_where_the_app_of_its_server_is)
{
	static const struct {
		const char *base_url;
		const char *entity;
		const char *name;
		const char *url;
	} cases[] = {
		{"https://api.wandb.ai", "me", "r", "https://wandb.ai/me/p/runs/r"},
		{"https://api.wandb.ai/", "me", "r", "https://wandb.ai/me/p/runs/r"},
		{"https://api.forge.coreweave.com", "me", "r",
		 "https://forge.coreweave.com/wandb/me/p/runs/r"},
		{"https://api.qa.example.com", "me", "r", "https://app.qa.example.com/me/p/runs/r"},
		{"http://127.0.0.1:8080", "me", "r", "http://127.0.0.1:8080/me/p/runs/r"},
		{"https://wandb.example.com/base//", "me", "r",
		 "https://wandb.example.com/base/me/p/runs/r"},
		{"https://api.wandb.ai", "m e", "na\xc3\xafve.~_-",
		 "https://wandb.ai/m%20e/p/runs/na%C3%AFve.~_-"},
		{"https://api.wandb.ai", "", "r", ""}, /* W&B has not answered */
		{"", "me", "r", ""},
	};

	for (size_t i = 0; i < array_len(cases); i++) {
		struct run_info run = {.project = "mine", .server_project = "p"};
		auto_buf struct buf out;

		buf_init(&out, 4096);
		(void)strcpy(run.server_entity, cases[i].entity);
		(void)strcpy(run.name, cases[i].name);
		run_url_add(&out, &run, cases[i].base_url);
		ck_assert_str_eq(buf_text(&out), cases[i].url);
	}
}
END_TEST

SUITE_MAIN("run_url", a_run_is_where_the_app_of_its_server_is)
