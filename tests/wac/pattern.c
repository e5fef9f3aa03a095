/*
 * pattern: fills blocks of a disk so that each differs from all others and from what it held before, or checks that they do.
 *
 *	pattern write|check direct|buffered DISK SEED FIRST BLOCKS PIECE
 *
 * FIRST is the first of BLOCKS blocks, PIECE the bytes of one call. Whoever knows the seed can make the same blocks elsewhere.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	EXIT_CANNOT = 1,
	EXIT_USAGE = 2,
	EXIT_DIFFERS = 3,
	BLOCK = 4096,
	WORDS = BLOCK / 8,
	WORKERS = 4,		/* so that a disk has something to do while the next piece is made */
};

static struct {
	bool writes, direct;
	const char *disk;
	uint64_t seed, first, blocks;
	size_t piece;
} job;

/* xorshift64 from a start that no other block of any seed has. */
static void fill(uint64_t block, uint64_t *words)
{
	uint64_t x = ((job.seed << 40 ^ block) + 1) * 0x9e3779b97f4a7c15;

	for (size_t i = 0; i < WORDS; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		words[i] = x;
	}
}

static void *aligned(size_t size)
{
	void *memory = aligned_alloc(BLOCK, size);

	if (!memory)
		err(EXIT_CANNOT, "memory");
	return memory;
}

static void write_piece(int fd, unsigned char *buffer, uint64_t block, size_t size)
{
	for (size_t at = 0; at < size; at += BLOCK)
		fill(block + at / BLOCK, (uint64_t *)(buffer + at));
	if (pwrite(fd, buffer, size, (off_t)(block * BLOCK)) != (ssize_t)size)
		err(EXIT_CANNOT, "write of block %" PRIu64, block);
}

static void check_piece(int fd, unsigned char *buffer, uint64_t block, size_t size)
{
	uint64_t expected[WORDS];

	if (pread(fd, buffer, size, (off_t)(block * BLOCK)) != (ssize_t)size)
		err(EXIT_CANNOT, "read of block %" PRIu64, block);
	for (size_t at = 0; at < size; at += BLOCK) {
		fill(block + at / BLOCK, expected);
		if (memcmp(buffer + at, expected, BLOCK))
			errx(EXIT_DIFFERS, "block %" PRIu64 " is not what was written", block + at / BLOCK);
	}
}

/* A part of the blocks, piece by piece. */
static void work(uint64_t block, uint64_t end)
{
	int flags = (job.writes ? O_WRONLY : O_RDONLY) | (job.direct ? O_DIRECT : 0);
	int fd = open(job.disk, flags);
	unsigned char *buffer = aligned(job.piece);

	if (fd < 0)
		err(EXIT_CANNOT, "%s", job.disk);
	while (block < end) {
		size_t size = job.piece;

		if ((end - block) * BLOCK < size)
			size = (size_t)(end - block) * BLOCK;
		if (job.writes)
			write_piece(fd, buffer, block, size);
		else
			check_piece(fd, buffer, block, size);
		block += size / BLOCK;
	}
	if (job.writes && fsync(fd))
		err(EXIT_CANNOT, "fsync");
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);

	if (end == text || *end)
		errx(EXIT_USAGE, "%s is no number", text);
	return value;
}

int main(int argc, char **argv)
{
	int worst = 0;

	if (argc != 8)
		errx(EXIT_USAGE, "write|check direct|buffered DISK SEED FIRST BLOCKS PIECE");
	job.writes = !strcmp(argv[1], "write");
	job.direct = !strcmp(argv[2], "direct");
	job.disk = argv[3];
	job.seed = number(argv[4]);
	job.first = number(argv[5]);
	job.blocks = number(argv[6]);
	job.piece = number(argv[7]);
	if (!job.piece || job.piece % BLOCK)
		errx(EXIT_USAGE, "a piece is whole blocks");
	for (uint64_t i = 0; i < WORKERS; i++) {
		pid_t child = fork();

		if (child < 0)
			err(EXIT_CANNOT, "fork");
		if (child)
			continue;
		work(job.first + job.blocks * i / WORKERS, job.first + job.blocks * (i + 1) / WORKERS);
		return 0;
	}
	for (int i = 0; i < WORKERS; i++) {
		int status;

		if (wait(&status) < 0)
			err(EXIT_CANNOT, "wait");
		if (!WIFEXITED(status))
			status = EXIT_CANNOT;
		else
			status = WEXITSTATUS(status);
		worst = status > worst ? status : worst;
	}
	return worst;
}
