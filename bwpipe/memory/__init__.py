"""A memory of a film's colours: key frames, and how the frames of a shot are drawn towards what they say."""
