/* See media.h. */
#include "daemon/forward/models/media.h"

#include <assert.h>
#include <string.h>

static const struct {
	const char *type;
	const char *folder;
	const char *class;
} kinds[MEDIA_KINDS] = {
	[MEDIA_IMAGE] = {"image-file", "media/images", "Image"},
	[MEDIA_BOXES] = {"boxes2D", "media/metadata/boxes2D", "BoundingBoxes2D"},
	[MEDIA_MASK] = {"mask", "media/images/mask", "ImageMask"},
	[MEDIA_HTML] = {"html-file", "media/html", "Html"},
	[MEDIA_AUDIO] = {"audio-file", "media/audio", "Audio"},
	[MEDIA_VIDEO] = {"video-file", "media/videos", "Video"},
	[MEDIA_PLOTLY] = {"plotly-file", "media/plotly", "Plotly"},
	[MEDIA_OTHER] = {"file", "media/files", "Media"},
};

enum media_kind media_kind_of(struct span type)
{
	unsigned k = 0;

	while (k < MEDIA_OTHER && !span_is(type, kinds[k].type))
		k++;
	return (enum media_kind)k;
}

const char *media_type(enum media_kind kind)
{
	assert(kind < MEDIA_KINDS);
	return kinds[kind].type;
}

const char *media_folder(enum media_kind kind)
{
	assert(kind < MEDIA_KINDS);
	return kinds[kind].folder;
}

const char *media_class(enum media_kind kind)
{
	assert(kind < MEDIA_KINDS);
	return kinds[kind].class;
}

bool media_ext_is_good(struct span ext)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

	if (ext.at == NULL || ext.len == 0 || ext.len > MEDIA_EXT_MAX || ext.at[0] != '.')
		return false;
	for (size_t i = 0; i < ext.len; i++) {
		if (memchr(allowed, ext.at[i], sizeof(allowed) - 1) == NULL)
			return false;
	}
	return true;
}
