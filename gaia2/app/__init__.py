"""The page `gaia2 app`: a scene drawn by hand, generated, continued, inpainted and edited.

`form` and `drawn_agents` turn what stands in the page into a `Scene` and back, `uploads` reads what visitors hand in,
`tasks` and `worker` run the pipelines, `results` writes what came out; none of them knows gradio, `page` does.
"""
