/*
 * wac: provokes writes after checksums.
 *
 * Many threads keep changing small pieces of one small file, so that pages are changed while they are on their way to
 * the medium. Whatever derives a checksum from a page in flight (protection information, digests) fails unless somebody
 * holds the page still or copies it. The program only does the writing and counts what the kernel answers; checksum
 * errors are counted where they are found.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/fs.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	EXIT_CANNOT = 1,	/* the run could not begin */
	EXIT_USAGE = 2,
	EXIT_ERRORS = 3,	/* the run ended, and the kernel reported errors */
	THREADS_MAX = 1024,	/* of each kind: far beyond what a guest can run */
	ERRNOS = 256,		/* Linux has fewer than 150 */
	ALIGNMENT = 4096,	/* of buffers for direct I/O: the largest block of any volume */
};

enum op { OP_WRITE, OP_STORE, OP_RANGE_SYNC, OP_MSYNC, OP_FSYNC, OP_CREATE, OP_RENAME, OP_UNLINK, OP_SYNC, OPS };

static const char *const op_names[OPS] = {
	"write", "store", "sync_file_range", "msync", "fsync", "create", "rename", "unlink", "sync",
};

enum kind { WRITER, MAPPER, SCRIBBLER, CHURNER, SYNCER };

struct worker {
	pthread_t thread;
	enum kind kind;
	unsigned int number;
	unsigned char *buffer;	/* a writer's, shared with its scribbler */
	uint64_t random;
	uint64_t done[OPS];
	uint64_t failed[OPS];
	uint64_t errnos[ERRNOS];
	uint64_t bytes;
};

static struct {
	unsigned int writers, mappers, churners;
	uint64_t file_size, piece;
	bool direct, o_sync, range_sync, fsync_each, change_buffer, until_error, device;
	double seconds;
	uint64_t seed;
	const char *path;
} opt = { .file_size = 65536, .seconds = 10, .seed = 1 };

static atomic_bool stop;
static int file = -1;
static unsigned char *map;
static _Thread_local sigjmp_buf bus_jump;
static _Thread_local volatile sig_atomic_t bus_armed;

static const char help[] =
"Usage: wac [OPTIONS] PATH\n"
"Keeps changing pieces of PATH while they are being written, and counts errors.\n"
"\n"
"Who works (at least one):\n"
"  -w, --writers N        threads that write()\n"
"  -m, --mappers N        threads that store through mmap()\n"
"  -c, --churn N          threads that create, rename and unlink files in the directory PATH,\n"
"                         beside one that calls syncfs() all the time; goes with no other kind\n"
"  -C, --combination X    A: 64 writers, -r         D: as C, every thread O_DIRECT\n"
"                         B: 64 mappers, -r         E: as A, O_DIRECT\n"
"                         C: 32 of each, -r         F: as B, file opened O_DIRECT\n"
"How:\n"
"  -s, --file-size SIZE   size of the file (64K); K, M and G are powers of 1024\n"
"  -p, --piece SIZE       bytes changed at once (512, with --direct 4096)\n"
"  -d, --direct           open with O_DIRECT\n"
"  -S, --o-sync           open with O_SYNC\n"
"  -r, --range-sync       sync_file_range() or msync() after each change\n"
"  -f, --fsync            fsync() after each change\n"
"  -b, --change-buffer    every writer's buffer is changed by a second thread while write() runs;\n"
"                         needs --direct\n"
"  -t, --seconds T        how long (10)\n"
"  -u, --until-error      end at the first error\n"
"      --seed N           of the random offsets (1)\n"
"      --device           PATH is a block device, and its first --file-size bytes may be LOST\n"
"  -h, --help             this text\n"
"\n"
"D may fail by itself (EIO): a direct write cannot always throw out a page that is mapped and dirty.\n"
"\n"
"Prints one JSON object: operations by kind, bytes, errors by kind and by errno.\n"
"Exit status: 0 no error; 1 could not begin; 2 wrong usage; 3 the kernel reported errors.\n"
"\n"
"Examples:\n"
"  wac -C A -t 30 /mnt/file              64 threads rewrite a 64 KiB file\n"
"  wac -w 4 -d -b -t 10 /mnt/file        buffers of direct writes change in flight\n"
"  wac -c 4 -t 20 /mnt                   metadata churn with a sync loop\n"
"  wac -w 8 -d --device -u /dev/nvme0n1  a raw device, until the first error\n";

static void die(int status, const char *format, ...)
{
	va_list args;

	fputs("wac: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(status);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* xorshift64*: offsets have to be spread, not secret. */
static uint64_t next_random(struct worker *worker)
{
	uint64_t x = worker->random;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	worker->random = x;
	return x * 0x2545f4914f6cdd1dULL;
}

static void failed(struct worker *worker, enum op op, int error)
{
	worker->failed[op]++;
	worker->errnos[error > 0 && error < ERRNOS ? error : 0]++;
	if (opt.until_error)
		atomic_store(&stop, true);
}

static void count(struct worker *worker, enum op op, bool good)
{
	if (good)
		worker->done[op]++;
	else
		failed(worker, op, errno);
}

static uint64_t random_offset(struct worker *worker)
{
	uint64_t offset = next_random(worker) % (opt.file_size - opt.piece + 1);

	return opt.direct ? offset / opt.piece * opt.piece : offset;
}

static void write_once(struct worker *worker)
{
	uint64_t offset = random_offset(worker);
	ssize_t written;

	if (!opt.change_buffer)
		memset(worker->buffer, (int)next_random(worker), opt.piece);
	written = pwrite(file, worker->buffer, opt.piece, (off_t)offset);
	if (written >= 0 && (uint64_t)written != opt.piece) {
		failed(worker, OP_WRITE, ENOSPC);
		return;
	}
	count(worker, OP_WRITE, written >= 0);
	if (written > 0)
		worker->bytes += (uint64_t)written;
	if (opt.range_sync)
		count(worker, OP_RANGE_SYNC,
		      sync_file_range(file, (off_t)offset, (off_t)opt.piece,
				      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				      SYNC_FILE_RANGE_WAIT_AFTER) == 0);
	if (opt.fsync_each)
		count(worker, OP_FSYNC, fsync(file) == 0);
}

static void on_bus_error(int signal)
{
	(void)signal;
	if (bus_armed)
		siglongjmp(bus_jump, 1);
	_exit(EXIT_CANNOT);
}

static void store_once(struct worker *worker)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t offset = random_offset(worker);
	uint64_t begin = offset / page * page;
	int value = (int)next_random(worker);

	/* A page that cannot be read in again ends in a signal. */
	if (sigsetjmp(bus_jump, 1)) {
		bus_armed = 0;
		failed(worker, OP_STORE, EIO);
		return;
	}
	bus_armed = 1;
	memset(map + offset, value, opt.piece);
	bus_armed = 0;
	worker->done[OP_STORE]++;
	worker->bytes += opt.piece;
	if (opt.range_sync)
		count(worker, OP_MSYNC, msync(map + begin, offset + opt.piece - begin, MS_SYNC) == 0);
	if (opt.fsync_each)
		count(worker, OP_FSYNC, fsync(file) == 0);
}

static void scribble_once(struct worker *worker)
{
	volatile unsigned char *place = worker->buffer + next_random(worker) % opt.piece;

	*place = (unsigned char)(*place + 1);
}

static void churn_once(struct worker *worker)
{
	static const char text[] = "some bytes, so that there is a block to allocate";
	char from[4096], to[4096];
	uint64_t number = next_random(worker) % 64;
	int created;

	snprintf(from, sizeof(from), "%s/wac.%u.%llu", opt.path, worker->number, (unsigned long long)number);
	snprintf(to, sizeof(to), "%s/wac.%u.%llu.renamed", opt.path, worker->number, (unsigned long long)number);
	created = open(from, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
	count(worker, OP_CREATE, created >= 0);
	if (created < 0)
		return;
	count(worker, OP_WRITE, write(created, text, sizeof(text)) == (ssize_t)sizeof(text));
	close(created);
	if (rename(from, to)) {
		failed(worker, OP_RENAME, errno);
		unlink(from);
		return;
	}
	worker->done[OP_RENAME]++;
	count(worker, OP_UNLINK, unlink(to) == 0);
}

static void *work(void *argument)
{
	struct worker *worker = argument;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		switch (worker->kind) {
		case WRITER:
			write_once(worker);
			break;
		case MAPPER:
			store_once(worker);
			break;
		case SCRIBBLER:
			scribble_once(worker);
			break;
		case CHURNER:
			churn_once(worker);
			break;
		case SYNCER:
			count(worker, OP_SYNC, syncfs(file) == 0);
			break;
		}
	}
	return NULL;
}

static uint64_t parse_number(const char *name, const char *text, bool size)
{
	char *end;
	unsigned long long number;
	unsigned int shift = 0;

	errno = 0;
	number = strtoull(text, &end, 10);
	if (size && *end)
		shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
	end += shift != 0;
	if (errno || end == text || *end || *text == '-' || number > (UINT64_MAX >> 1 >> shift))
		die(EXIT_USAGE, "%s: not a number: %s", name, text);
	return number << shift;
}

static unsigned int parse_threads(const char *name, const char *text)
{
	uint64_t number = parse_number(name, text, false);

	if (number > THREADS_MAX)
		die(EXIT_USAGE, "%s: at most %d", name, THREADS_MAX);
	return (unsigned int)number;
}

static void combine(const char *text)
{
	if (strlen(text) != 1 || *text < 'A' || *text > 'F')
		die(EXIT_USAGE, "--combination: one of A B C D E F, not %s", text);
	opt.writers = strchr("AE", *text) ? 64 : strchr("CD", *text) ? 32 : 0;
	opt.mappers = strchr("BF", *text) ? 64 : strchr("CD", *text) ? 32 : 0;
	opt.range_sync = true;
	opt.direct = strchr("DEF", *text) != NULL;
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "writers", 1, 0, 'w' }, { "mappers", 1, 0, 'm' }, { "churn", 1, 0, 'c' },
		{ "combination", 1, 0, 'C' }, { "file-size", 1, 0, 's' }, { "piece", 1, 0, 'p' },
		{ "direct", 0, 0, 'd' }, { "o-sync", 0, 0, 'S' }, { "range-sync", 0, 0, 'r' },
		{ "fsync", 0, 0, 'f' }, { "change-buffer", 0, 0, 'b' }, { "seconds", 1, 0, 't' },
		{ "until-error", 0, 0, 'u' }, { "seed", 1, 0, 1 }, { "device", 0, 0, 2 },
		{ "help", 0, 0, 'h' }, { 0 },
	};
	char *end;
	int option;

	while ((option = getopt_long(argc, argv, "w:m:c:C:s:p:dSrfbt:uh", options, NULL)) != -1) {
		switch (option) {
		case 'w': opt.writers = parse_threads("--writers", optarg); break;
		case 'm': opt.mappers = parse_threads("--mappers", optarg); break;
		case 'c': opt.churners = parse_threads("--churn", optarg); break;
		case 'C': combine(optarg); break;
		case 's': opt.file_size = parse_number("--file-size", optarg, true); break;
		case 'p': opt.piece = parse_number("--piece", optarg, true); break;
		case 'd': opt.direct = true; break;
		case 'S': opt.o_sync = true; break;
		case 'r': opt.range_sync = true; break;
		case 'f': opt.fsync_each = true; break;
		case 'b': opt.change_buffer = true; break;
		case 't':
			opt.seconds = strtod(optarg, &end);
			if (end == optarg || *end || !(opt.seconds > 0 && opt.seconds <= 1e6))
				die(EXIT_USAGE, "--seconds: above 0, at most a million: %s", optarg);
			break;
		case 'u': opt.until_error = true; break;
		case 1: opt.seed = parse_number("--seed", optarg, false); break;
		case 2: opt.device = true; break;
		case 'h': fputs(help, stdout); exit(0);
		default: exit(EXIT_USAGE);
		}
	}
	if (optind + 1 != argc)
		die(EXIT_USAGE, "one PATH is needed; see --help");
	opt.path = argv[optind];
	if (!opt.piece)
		opt.piece = opt.direct ? ALIGNMENT : 512;
	if (!opt.writers && !opt.mappers && !opt.churners)
		die(EXIT_USAGE, "nobody would work: --writers, --mappers, --churn or --combination");
	if (opt.churners && (opt.writers || opt.mappers || opt.device))
		die(EXIT_USAGE, "--churn goes with no other kind of thread, and with no device");
	if (opt.change_buffer && !(opt.direct && opt.writers))
		die(EXIT_USAGE, "--change-buffer needs --direct and --writers");
	if (opt.piece > opt.file_size)
		die(EXIT_USAGE, "--piece is larger than --file-size");
	if (opt.direct && opt.piece % 512)
		die(EXIT_USAGE, "--piece must be a multiple of 512 with --direct");
}

/* Every block of the file is there before the run: blocks are rewritten, never allocated. */
static void fill(void)
{
	static unsigned char zeroes[65536] __attribute__((aligned(4096)));
	uint64_t at;
	int plain = open(opt.path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (plain < 0)
		die(EXIT_CANNOT, "%s: %s", opt.path, strerror(errno));
	for (at = 0; at < opt.file_size;) {
		uint64_t left = opt.file_size - at;
		ssize_t written = pwrite(plain, zeroes, left < sizeof(zeroes) ? left : sizeof(zeroes), (off_t)at);

		if (written <= 0)
			die(EXIT_CANNOT, "%s: cannot be filled: %s", opt.path, strerror(written ? errno : ENOSPC));
		at += (uint64_t)written;
	}
	if (ftruncate(plain, (off_t)opt.file_size) || fsync(plain))
		die(EXIT_CANNOT, "%s: %s", opt.path, strerror(errno));
	close(plain);
}

static void open_file(void)
{
	struct stat info;
	bool there = stat(opt.path, &info) == 0;
	uint64_t bytes = 0;

	if (opt.churners) {
		file = open(opt.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (file < 0)
			die(EXIT_CANNOT, "%s: %s", opt.path, strerror(errno));
		return;
	}
	if (there && !S_ISREG(info.st_mode) && !(S_ISBLK(info.st_mode) && opt.device))
		die(EXIT_CANNOT, "%s: not a file%s", opt.path, S_ISBLK(info.st_mode) ? "; --device allows it" : "");
	if (opt.device && !(there && S_ISBLK(info.st_mode)))
		die(EXIT_CANNOT, "%s: not a block device", opt.path);
	if (!opt.device)
		fill();
	file = open(opt.path, O_RDWR | O_CLOEXEC | (opt.direct ? O_DIRECT : 0) | (opt.o_sync ? O_SYNC : 0));
	if (file < 0)
		die(EXIT_CANNOT, "%s: %s", opt.path, strerror(errno));
	if (opt.device && (ioctl(file, BLKGETSIZE64, &bytes) || bytes < opt.file_size))
		die(EXIT_CANNOT, "%s: smaller than --file-size", opt.path);
	if (!opt.mappers)
		return;
	map = mmap(NULL, opt.file_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (map == MAP_FAILED)
		die(EXIT_CANNOT, "%s: mmap: %s", opt.path, strerror(errno));
}

static unsigned char *new_buffer(void)
{
	void *buffer;

	if (posix_memalign(&buffer, ALIGNMENT, opt.piece))
		die(EXIT_CANNOT, "no memory");
	memset(buffer, 0x5a, opt.piece);
	return buffer;
}

static void begin(struct worker *worker, enum kind kind, unsigned int number, unsigned char *buffer)
{
	int error;

	worker->kind = kind;
	worker->number = number;
	worker->buffer = buffer;
	/* Never zero, from which the generator would not move. */
	worker->random = (opt.seed * 0x9e3779b97f4a7c15ULL) ^ ((uint64_t)number << 32 | (uint64_t)kind << 16 | 1);
	error = pthread_create(&worker->thread, NULL, work, worker);
	if (error)
		die(EXIT_CANNOT, "cannot start a thread: %s", strerror(error));
}

static unsigned int begin_all(struct worker *workers)
{
	unsigned int count = 0, i;

	for (i = 0; i < opt.writers; i++) {
		unsigned char *buffer = new_buffer();

		begin(&workers[count], WRITER, count, buffer);
		count++;
		if (opt.change_buffer) {
			begin(&workers[count], SCRIBBLER, count, buffer);
			count++;
		}
	}
	for (i = 0; i < opt.mappers; i++, count++)
		begin(&workers[count], MAPPER, count, NULL);
	for (i = 0; i < opt.churners; i++, count++)
		begin(&workers[count], CHURNER, count, NULL);
	if (opt.churners) {
		begin(&workers[count], SYNCER, count, NULL);
		count++;
	}
	return count;
}

static void print_counts(const char *name, const uint64_t *counts)
{
	const char *comma = "";

	printf("\"%s\":{", name);
	for (int op = 0; op < OPS; op++) {
		if (counts[op]) {
			printf("%s\"%s\":%llu", comma, op_names[op], (unsigned long long)counts[op]);
			comma = ",";
		}
	}
	printf("},");
}

static uint64_t print_summary(const struct worker *workers, unsigned int number, double seconds)
{
	struct worker sum = { 0 };
	const char *comma = "";
	uint64_t errors = 0;

	for (unsigned int i = 0; i < number; i++) {
		for (int op = 0; op < OPS; op++) {
			sum.done[op] += workers[i].done[op];
			sum.failed[op] += workers[i].failed[op];
		}
		for (int error = 0; error < ERRNOS; error++)
			sum.errnos[error] += workers[i].errnos[error];
		sum.bytes += workers[i].bytes;
	}
	printf("{\"seconds\":%.3f,\"bytes\":%llu,", seconds, (unsigned long long)sum.bytes);
	print_counts("operations", sum.done);
	print_counts("failed", sum.failed);
	printf("\"errors\":{");
	for (int error = 0; error < ERRNOS; error++) {
		const char *name = strerrorname_np(error);

		if (!sum.errnos[error])
			continue;
		errors += sum.errnos[error];
		printf("%s\"%s\":%llu", comma, name && error ? name : "unknown", (unsigned long long)sum.errnos[error]);
		comma = ",";
	}
	printf("}}\n");
	return errors;
}

int main(int argc, char **argv)
{
	struct sigaction on_bus = { .sa_handler = on_bus_error, .sa_flags = SA_NODEFER };
	struct worker *workers;
	double started, ended;
	uint64_t errors;
	unsigned int number;

	parse(argc, argv);
	open_file();
	sigaction(SIGBUS, &on_bus, NULL);
	workers = calloc(2 * (size_t)opt.writers + opt.mappers + opt.churners + 1, sizeof(*workers));
	if (!workers)
		die(EXIT_CANNOT, "no memory");
	started = now();
	number = begin_all(workers);
	while (!atomic_load(&stop) && now() - started < opt.seconds) {
		struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };

		nanosleep(&pause, NULL);
	}
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < number; i++)
		pthread_join(workers[i].thread, NULL);
	/* What fails after the last write is found by the last flush. */
	if (!opt.churners)
		count(&workers[0], OP_FSYNC, fsync(file) == 0);
	ended = now();
	errors = print_summary(workers, number, ended - started);
	if (fflush(stdout) || ferror(stdout))
		die(EXIT_CANNOT, "cannot write the summary");
	return errors ? EXIT_ERRORS : 0;
}
