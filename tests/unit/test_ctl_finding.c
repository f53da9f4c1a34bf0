#include "client/ctl/finding.h"
#include "tests/lib/mptext.h"
#include "tests/lib/suite.h"

#include <string.h>

struct expected {
	const char *map;
	enum finding_level level;
	const char *found;  /* a part of it */
	const char *action; /* the same */
};

static void check(const struct expected *all, size_t count,
		  void (*judge)(struct finding *, struct mp))
{
	for (size_t i = 0; i < count; i++) {
		struct finding f = {.level = FINDING_OK};
		struct buf room = {0};

		judge(&f, mp_text(&room, all[i].map));
		ck_assert_msg(f.level == all[i].level && strstr(f.found, all[i].found) != NULL &&
				      strstr(f.action, all[i].action) != NULL,
			      "%s: %s: %s: %s", all[i].map, finding_level_name(f.level), f.found,
			      f.action);
		ck_assert_int_eq(f.level == FINDING_OK, f.action[0] == '\0');
		buf_done(&room);
	}
}

START_TEST(net_says_how_far_it_came)
{
	static const struct expected all[] = {
		{"{'url':'u','failure':'','status':200,'is_wandb':true,'name_us':2000,'connect_us':"
		 "12000,"
		 "'tls_us':42000,'first_us':142000}",
		 FINDING_OK, "name 2.0 ms, TCP 10 ms, TLS 30 ms, answer 100 ms (HTTP 200)", ""},
		{"{'url':'u','failure':'no name','status':0,'name_us':0}", FINDING_FAIL, "no name",
		 "DNS"},
		{"{'url':'u','failure':'x','status':0,'name_us':9}", FINDING_FAIL, "u: x",
		 "firewall"},
		{"{'url':'u','failure':'x','status':0,'name_us':9,'connect_us':10}", FINDING_FAIL,
		 "u: x", "certificates"},
		{"{'url':'u','failure':'','status':503,'reason':'tired'}", FINDING_WARN,
		 "HTTP 503 tired", "again by itself"},
		{"{'url':'u','failure':'','status':200,'is_wandb':false}", FINDING_WARN, "HTTP 200",
		 "captive"},
		{"{}", FINDING_WARN, "HTTP 0", "base_url"},
	};

	check(all, array_len(all), finding_net);
}
END_TEST

START_TEST(key_says_whose_it_is)
{
	static const struct expected all[] = {
		{"{'key':'accepted','key_tail':'a91f','key_source':'/k','user':'bot'}", FINDING_OK,
		 "ends with a91f, from /k: user bot", ""},
		{"{'key':'refused','key_tail':'a91f','key_source':'/k','status':401,'reason':'no'}",
		 FINDING_FAIL, "refuses the key that ends with a91f, from /k: HTTP 401 no",
		 "replace it"},
		{"{'key':'none','key_error':'/k is open to others'}", FINDING_WARN,
		 "there is none: /k is open to others", "KEYS"},
		{"{'key':'','key_tail':'a91f','key_source':'/k'}", FINDING_WARN,
		 "could not be asked", "wbxctl doctor net"},
	};

	check(all, array_len(all), finding_key);
}
END_TEST

START_TEST(clock_is_compared_and_has_to_follow_a_server)
{
	static const struct {
		const char *map;
		int64_t now_s;
		bool is_synced;
		enum finding_level level;
		const char *found;
	} all[] = {
		{"{'date_s':1000}", 1005, true, FINDING_OK, "within 5 s"},
		{"{'date_s':1000}", 995, false, FINDING_WARN, "no time server"},
		{"{'date_s':1000}", 1006, true, FINDING_WARN, "6 s before"},
		{"{'date_s':1000}", 990, true, FINDING_WARN, "10 s behind"},
		{"{}", 990, true, FINDING_WARN, "could not be compared"},
	};

	for (size_t i = 0; i < array_len(all); i++) {
		struct finding f = {.level = FINDING_OK};
		struct buf room = {0};

		finding_clock(&f, mp_text(&room, all[i].map), all[i].now_s, all[i].is_synced);
		ck_assert_msg(f.level == all[i].level && strstr(f.found, all[i].found) != NULL,
			      "%s: %s", all[i].map, f.found);
		buf_done(&room);
	}
}
END_TEST

#define DISK                                                                                       \
	"{'dir':'/s','filesystem':'ext4','total_bytes':1000000000000,'reserve_bytes':2000000000,"  \
	"'limit_bytes':50000000000,'sync_error':'',"

START_TEST(disk_is_judged_by_room_and_by_its_sync)
{
	static const struct expected all[] = {
		{DISK
		 "'free_bytes':400000000000,'used_bytes':1000000,'sync_us':1200,'bytes_per_s':1e6}",
		 FINDING_OK, "lasts 13 h at the present", ""},
		{DISK "'free_bytes':400000000000,'used_bytes':1,'sync_us':200000}", FINDING_WARN,
		 "a sync takes 200 ms", "slow"},
		{DISK "'free_bytes':1500000000,'used_bytes':1,'sync_us':1}", FINDING_WARN,
		 "/s: ext4", "are refused"},
		{DISK "'free_bytes':500000000,'used_bytes':1,'sync_us':1}", FINDING_FAIL,
		 "/s: ext4", "not taken any more"},
		{DISK "'free_bytes':400000000000,'used_bytes':50000000000,'sync_us':1}",
		 FINDING_FAIL, "/s: ext4", "store prune"},
		{"{'dir':'/s','sync_error':'Input/output error'}", FINDING_FAIL,
		 "Input/output error", "dmesg"},
		{"{'dir':'/s','is_read_only':true}", FINDING_FAIL, "read-only", "mount"},
	};

	check(all, array_len(all), finding_disk);
}
END_TEST

START_TEST(store_is_judged_by_damage_sums_and_log)
{
	static const struct expected all[] = {
		{"{'records':1000,'is_whole':true}", FINDING_OK, "1 000 records agree", ""},
		{"{'records':1000,'all_records':5000,'is_whole':false}", FINDING_OK,
		 "of about 5 000, in the time there was", ""},
		{"{'damage':'malformed'}", FINDING_FAIL, "damaged: malformed",
		 "move the store away"},
		{"{'records':9,'wrong_sums':1}", FINDING_FAIL, "1 sums and 0 cursors", "report"},
		{"{'records':9,'wal_bytes':2000000000}", FINDING_WARN, "log 1.86 GiB", "fuser"},
	};

	check(all, array_len(all), finding_store);
}
END_TEST

SUITE_MAIN("ctl_finding", net_says_how_far_it_came, key_says_whose_it_is,
	   clock_is_compared_and_has_to_follow_a_server, disk_is_judged_by_room_and_by_its_sync,
	   store_is_judged_by_damage_sums_and_log)
