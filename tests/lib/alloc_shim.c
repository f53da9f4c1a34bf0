/* Preloaded into a program: lets allocations of its own code fail; those of the libraries it uses
 * go well.
 *
 * WBX_ALLOC_FAIL=n: allocation n of the process fails, once; a forked child counts on from its
 * parent. WBX_ALLOC_EVERY=n: one in n fails, on and on, by a generator that begins with
 * WBX_ALLOC_SEED. WBX_ALLOC_HITS names a file of eight bytes, mapped and shared with the test: how
 * many failed. */
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

enum {
	FRAMES = 24
};
static void *frames[FRAMES];
static uintptr_t program;
static uintptr_t code_begin;
static uintptr_t code_end;
static bool is_off; /* until the fork */
static uint64_t fail_at;
static uint64_t fail_every;
static _Atomic uint64_t count;
static _Atomic uint64_t random_state;
static _Atomic uint64_t *hits;

/* Check is linked into the tests of the units; it ends a test for which it finds no memory. */
static const char *const spared[] = {"emalloc", "erealloc"};
enum {
	SPARED = sizeof(spared) / sizeof(spared[0])
};
static struct {
	uintptr_t begin;
	uintptr_t end;
} spared_at[SPARED];

static void find_spared(const uint8_t *file, uintptr_t base)
{
	const ElfW(Ehdr) *head = (const void *)file;
	const ElfW(Shdr) *sections = (const void *)(file + head->e_shoff);

	for (unsigned i = 0; i < head->e_shnum; i++) {
		const char *names = (const char *)file + sections[sections[i].sh_link].sh_offset;
		const ElfW(Sym) *symbols = (const void *)(file + sections[i].sh_offset);

		if (sections[i].sh_type != SHT_SYMTAB)
			continue;
		for (size_t k = 0; k < sections[i].sh_size / sizeof(*symbols); k++) {
			for (int n = 0; n < SPARED; n++) {
				if (strcmp(names + symbols[k].st_name, spared[n]) != 0)
					continue;
				spared_at[n].begin = base + symbols[k].st_value;
				spared_at[n].end = spared_at[n].begin + symbols[k].st_size;
			}
		}
	}
}

static void read_program(uintptr_t base)
{
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *map = MAP_FAILED;

	if (fd >= 0 && fstat(fd, &st) == 0)
		map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		abort();
	find_spared(map, base);
	(void)munmap(map, (size_t)st.st_size);
	(void)close(fd);
}

/* The first object is the program itself. */
static int on_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type == PT_LOAD && (p->p_flags & PF_X) != 0) {
			code_begin = info->dlpi_addr + p->p_vaddr;
			code_end = code_begin + p->p_memsz;
		}
	}
	program = info->dlpi_addr;
	read_program(program);
	return 1;
}

static uint64_t number_of(const char *name)
{
	const char *text = getenv(name);

	return text == NULL ? 0 : strtoull(text, NULL, 10);
}

/* Says where in the program: offsets for nm, the innermost first. */
static void on_crash(int number)
{
	int n = backtrace(frames, FRAMES);

	(void)dprintf(STDERR_FILENO, "crash:");
	for (int i = 0; i < n; i++) {
		uintptr_t at = (uintptr_t)frames[i];

		if (at >= code_begin && at < code_end)
			(void)dprintf(STDERR_FILENO, " %lx", (unsigned long)(at - program));
	}
	(void)dprintf(STDERR_FILENO, "\n");
	(void)signal(number, SIG_DFL);
	(void)raise(number);
}

static void on_fork(void)
{
	is_off = false;
	count = 0;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("WBX_ALLOC_HITS");
	void *map;
	int fd;

	if (path != NULL) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		map = mmap(NULL, sizeof(*hits), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (map == MAP_FAILED)
			abort();
		hits = map;
		(void)close(fd);
	}
	is_off = number_of("WBX_ALLOC_CHILDREN") != 0;
	(void)pthread_atfork(NULL, NULL, on_fork);
	if (is_off) {
		(void)backtrace(frames, 1); /* loads what it needs while all is well */
		(void)signal(SIGSEGV, on_crash);
	}
	random_state = number_of("WBX_ALLOC_SEED");
	fail_at = number_of("WBX_ALLOC_FAIL");
	fail_every = number_of("WBX_ALLOC_EVERY");
	(void)dl_iterate_phdr(on_object, NULL); /* from here on it counts */
}

static bool is_drawn(void)
{
	uint64_t x = atomic_fetch_add(&random_state, 0x9e3779b97f4a7c15u);

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return (x ^ x >> 31) % fail_every == 0;
}

static bool must_fail(const void *caller)
{
	uintptr_t at = (uintptr_t)caller;

	if (is_off || at < code_begin || at >= code_end)
		return false;
	for (int i = 0; i < SPARED; i++) {
		if (at >= spared_at[i].begin && at < spared_at[i].end)
			return false;
	}
	if (atomic_fetch_add(&count, 1) + 1 != fail_at && (fail_every == 0 || !is_drawn()))
		return false;
	if (hits != NULL)
		atomic_fetch_add(hits, 1);
	errno = ENOMEM;
	return true;
}

#define SHIM __attribute__((visibility("default")))

SHIM void *malloc(size_t size)
{
	return must_fail(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

SHIM void *calloc(size_t n, size_t size)
{
	return must_fail(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}

SHIM void *realloc(void *old, size_t size)
{
	return must_fail(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}
