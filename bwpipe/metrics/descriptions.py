"""Descriptions of the metrics of a score."""

MOST_PSNR = 100.0
"""The PSNR, in dB, that counts for a prediction equal to the reference, where it would be infinite."""

FIGURES = {
    "rgb_mse": "mean squared error in RGB, 0..1; the mean over the pictures",
    "own_rgb_mse": "the same for the RGB output of the network itself, at its input size",
    "psnr": f"peak signal-to-noise ratio in RGB, in dB; the mean over the pictures; equal pictures count as {MOST_PSNR:.0f}",
    "ssim": "structural similarity in RGB (Wang et al. 2004: Gaussian window of 11 x 11, sigma 1.5, K1 0.01, K2 0.03; "
    "scikit-image); the mean over the pictures",
    "ciede2000": "colour difference CIEDE2000 of sRGB under D65 (scikit-image); the mean over pixels, then over pictures",
    "colourfulness": "Hasler and Suesstrunk 2003; the mean over the pictures",
    "colourfulness_truth": "colourfulness of the reference",
    "colourfulness_difference": "colourfulness of the prediction minus that of the reference",
    "chroma_error": "root mean square of the distance in (Cb, Cr), in code values 0..255; the mean over the pictures",
    "chroma_ratio": "mean length of (Cb, Cr) over all pictures, as a share of the reference's",
    "chroma_correlation": "Pearson correlation over all pixels of all pictures, Cb and Cr pooled; pictures averaged to 64 x 64",
    "unevenness": "variance of chroma within segments of the reference that have one colour, as a share of the mean square of "
    "chroma, so that paleness does not help (Felzenszwalb and Huttenlocher 2004, short side 128); pooled over the pictures",
    "neutral_painted": "share of the reference's neutral pixels, chroma below 0.03, where the prediction's is above 0.06",
    "frechet": "Frechet distance of the pooled features of EfficientNet-Lite0 pretrained on ImageNet; "
    "not the FID of papers, and comparable only for equal numbers of pictures under the same protocol",
}
"""Image metrics by name."""

FILM_FIGURES = {
    "flicker": "mean change of chroma from frame to frame along the flow, relative to that of luma: both in code values, where "
    "forward and backward flow agree (Farneback 2003, short side 256), within shots; the budget `max_flicker` of `steady`",
    "chroma_change": "that change of chroma alone, in code values; the mean over the frames",
    "cdc": "colour distribution consistency (Liu et al. 2021) on chroma: the mean Jensen-Shannon divergence, in nats, of the "
    "distributions of Cb and of Cr in frames that are 1, 2 and 4 apart, within shots",
    "drift_12": "mean change of chroma between frames 12 apart in a shot where nothing moves, relative to the mean length of "
    "chroma there: in between, blurred luma stays within 2 % of its range, and the flow within 1/120 of the short side a frame",
    "drift_48": "the same of frames 48 apart",
    "drift_half": "the same of frames half of their shot apart",
}
"""Video metrics by name: smaller is steadier. With a reference in colour, each is also reported as a share of its value."""
