"""Longreel Decode to Video: a latent of any length goes into an .mp4 without the whole video ever being in memory."""

from comfy_api.latest import InputImpl, io, ui

from ..engine.measure.video_file import ENDING, LARGEST_CRF, SMALLEST_CRF, refuse_odd_size, write_video
from ..hosts import keys
from ..hosts.video.decode import decode_frames, decode_takes, pixel_size
from ..hosts.video.decode_sound import sound_of_video, streams_of
from ..hosts.video.file import graph_metadata, soundtrack
from .folders import check_prefix, numbered_place
from .sockets import TimelineSocket
from .validation import verdict


class LongreelDecodeToVideo(io.ComfyNode):
    """VAE decode chunk by chunk, straight into a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelDecodeToVideo",
            display_name="Longreel Decode to Video",
            category="Longreel/sampling",
            description="Decodes a latent chunk by chunk straight into an .mp4 in the output folder. With the VAEs of "
            "Wan, HunyuanVideo, LTXV and CogVideoX memory stays the same however long the video is.",
            search_aliases=[
                "streaming decode",
                "chunked decode",
                "long video decode",
                "save video",
                "vae decode",
                "low memory decode",
                "video combine",
            ],
            inputs=[
                io.Vae.Input(
                    "vae",
                    tooltip="The VAE of the model that sampled the latent. Those of Wan 2.1 and 2.2, HunyuanVideo and "
                    "1.5, LTXV and CogVideoX, TAEHV and image VAEs stream; others go through core's tiled decode.",
                ),
                io.Latent.Input("samples", tooltip="One video, any number of latent frames."),
                io.Float.Input(
                    "fps",
                    default=16.0,
                    min=0.1,
                    max=240.0,
                    step=0.01,
                    tooltip="Frames per second of the file, 0.1 to 240. Wan 2.1 is made for 16, Wan 2.2 5B "
                    "and LTXV for 24.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="longreel/video",
                    tooltip="Name of the file, with subfolders, inside ComfyUI's output folder; a number "
                    "is added and nothing is overwritten. Knows %width%, %height%, %year%, "
                    "%month%, %day%.",
                ),
                io.Int.Input(
                    "crf",
                    default=19,
                    min=SMALLEST_CRF,
                    max=LARGEST_CRF,
                    tooltip="Quality of the h264 encoder, 1 (best, largest file) to 51 (worst, smallest).",
                ),
                io.Int.Input(
                    "chunk_latent_frames",
                    default=0,
                    min=0,
                    max=1024,
                    optional=True,
                    advanced=True,
                    tooltip="Latent frames decoded at once, 1 to 1024; 0 takes what suits the VAE. Smaller "
                    "needs less memory. It is halved when memory runs out. On HunyuanVideo and CogVideoX larger comes "
                    "nearer to core's VAE Decode.",
                ),
                TimelineSocket.Input(
                    "timeline",
                    optional=True,
                    tooltip=(
                        "From Longreel Plan: the VAE starts afresh at every cut, so that nothing of the shot before "
                        "shows behind it."
                    ),
                ),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="Sound laid under the whole video, from its first frame: speech or music. What is longer "
                    "than the video is cut, what is shorter ends in silence.",
                ),
                io.Vae.Input(
                    "audio_vae",
                    optional=True,
                    tooltip=(
                        "Of a model that makes sound beside the video (LTX-2), from core's Load LTXV Audio VAE: the "
                        "latent's own sound is decoded and lies under the frames that it was made with."
                    ),
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The saved file."),
                io.String.Output(
                    display_name="report",
                    tooltip="How the VAE was streamed, whether the frames are those of core's VAE Decode, and what was "
                    "changed when memory ran out.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None) -> bool | str:
        if filename_prefix is None:  # linked: its value is not known before the run, `execute` checks it then
            return True
        return verdict(lambda: check_prefix(filename_prefix, ENDING))

    @classmethod
    def execute(
        cls, vae, samples, fps, filename_prefix, crf, chunk_latent_frames=0, timeline=None, audio=None, audio_vae=None
    ) -> io.NodeOutput:
        sound = None if audio is None else soundtrack(audio)
        check_prefix(filename_prefix, ENDING)  # it may have come through a wire
        made = None if timeline is None else samples.get(keys.TIMELINE, timeline)
        latent, own_sound = streams_of(samples["samples"], audio_vae is not None, sound is not None)
        said: list[str] = []
        if made is None:
            frames = decode_frames(vae, latent, chunk_latent_frames, said)
        else:
            frames = decode_takes(vae, latent, made.take_lengths, chunk_latent_frames, said)
        width, height = pixel_size(vae, latent)
        refuse_odd_size(width, height)
        if own_sound is not None:
            sound = sound_of_video(vae, audio_vae, (latent, own_sound), fps, made)
        folder, stem, counter, subfolder = numbered_place(filename_prefix, width, height)
        metadata = graph_metadata(cls.hidden.prompt, cls.hidden.extra_pnginfo)
        written = write_video(frames, folder, stem, counter, fps, crf, metadata=metadata, sound=sound)
        if sound and own_sound is None and (beside := sound.said_beside(written.frames / fps)):
            said.append(beside)
        preview = ui.PreviewVideo([ui.SavedResult(written.path.name, subfolder, io.FolderType.output)])
        return io.NodeOutput(InputImpl.VideoFromFile(str(written.path)), "\n".join(dict.fromkeys(said)), ui=preview)
